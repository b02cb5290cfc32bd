//! The kinds of definitions: their names in the database, and which of them are views.

use crate::error::Kind;
use crate::on_demand::ON_DEMAND;

impl Kind {
    /// The kind's name in the database.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
            Self::DataSource => "data_source",
            Self::Project => "project",
            Self::Other(name) => name,
        }
    }
}

/// The kinds that are feature views of one sort or another.
pub(crate) const VIEW_KINDS: [Kind; 4] = [Kind::FeatureView, ON_DEMAND, STREAM, LABEL];

/// Those whose features are columns of a table.
pub(super) const READ_KINDS: [Kind; 3] = [Kind::FeatureView, STREAM, LABEL];

pub(crate) const STREAM: Kind = Kind::Other("stream_feature_view");
pub(crate) const LABEL: Kind = Kind::Other("label_view");
pub(crate) const VALIDATION: Kind = Kind::Other("validation_reference");
