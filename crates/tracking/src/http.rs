//! The routes of tracking.

use web::{Routes, Style};

use crate::Tracking;

/// MLflow's tracking routes.
pub fn routes(tracking: Tracking) -> Routes {
    Routes::new(Style::Mlflow).with_state(tracking)
}
