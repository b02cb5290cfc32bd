//! The routes of tracking.

mod artifacts;
mod download;
mod logged_models;

use web::{Routes, Style};

use crate::Tracking;
use crate::wire::under_both_prefixes;

pub use download::download;

/// MLflow's tracking routes.
pub fn routes(tracking: Tracking) -> Routes {
    let routes = under_both_prefixes(Routes::new(Style::Mlflow), |routes, prefix| {
        let routes = artifacts::add(routes, prefix);
        logged_models::add(routes, prefix)
    });
    artifacts::add_bare(routes).with_state(tracking)
}
