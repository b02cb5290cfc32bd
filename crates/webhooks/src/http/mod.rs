//! The routes of webhooks.

mod mlflow;
mod own;

use tracking::wire::under_both_prefixes;
use web::{Routes, Style};

use crate::Webhooks;

pub use own::openapi;

/// MLflow's routes of webhooks and asgard's own.
pub fn routes(webhooks: Webhooks) -> Routes {
    let mlflow = under_both_prefixes(Routes::new(Style::Mlflow), mlflow::add);
    own::add(Routes::new(Style::Asgard))
        .merge(mlflow)
        .with_state(webhooks)
}
