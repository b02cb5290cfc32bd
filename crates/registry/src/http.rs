//! The routes of the registry.

mod aliases;
mod body;
mod external;
mod models;
mod own;
mod versions;

use tracking::wire::under_both_prefixes;
use web::{Routes, Style};

use crate::Registry;

pub use own::openapi;

/// MLflow's registry routes and asgard's own.
pub fn routes(registry: Registry) -> Routes {
    let mlflow = under_both_prefixes(Routes::new(Style::Mlflow), |routes, prefix| {
        let routes = models::add(routes, prefix);
        let routes = versions::add(routes, prefix);
        aliases::add(routes, prefix)
    });
    let mut mlflow = versions::add_bare(mlflow);
    if registry.tracking().external().is_some() {
        mlflow = external::routes(mlflow.table());
    }
    own::add(Routes::new(Style::Asgard))
        .merge(mlflow)
        .with_state(registry)
}
