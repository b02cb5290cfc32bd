//! The routes of webhooks.

mod mlflow;
mod own;

use tracking::wire::under_both_prefixes;
use web::{Routes, Style};

use crate::Webhooks;

pub use own::openapi;

/// The routes where an external MLflow server keeps the registry: asgard's own, for the ends of jobs.
/// MLflow's say where the registry's webhooks are.
pub fn routes_beside_external(mut webhooks: Webhooks) -> Routes {
    webhooks.only_jobs = true;
    let mlflow = under_both_prefixes(Routes::new(Style::Mlflow), mlflow::add_elsewhere);
    own::add(Routes::new(Style::Asgard))
        .merge(mlflow)
        .with_state(webhooks)
}

/// MLflow's routes of webhooks and asgard's own.
pub fn routes(webhooks: Webhooks) -> Routes {
    let mlflow = under_both_prefixes(Routes::new(Style::Mlflow), mlflow::add);
    own::add(Routes::new(Style::Asgard))
        .merge(mlflow)
        .with_state(webhooks)
}
