//! On-demand feature views: features that a function of the user computes when they are asked for,
//! from the features of other views and from values that come with the request.
//!
//! The function is Python, kept in the definition as dill's bytes and as text. It runs in a sandboxed
//! worker, never in this process.

mod computed;
mod folder;
mod refusal;
mod transforms;
mod view;
mod worker;

pub use computed::OnDemandUse;
pub use view::OnDemandView;

pub(crate) use computed::ViewColumns;
pub(crate) use transforms::Transforms;
pub(crate) use view::{Function, SourceFeatures};

use crate::error::Kind;

/// The kind under which definitions are kept.
pub(crate) const ON_DEMAND: Kind = Kind::Other("on_demand_feature_view");
