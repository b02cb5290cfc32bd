//! Answers for load balancers and for MLflow clients that ask what they speak to.

use web::{Permission, Routes, Style};

/// The MLflow release that asgard says it is: that of the page and the tests it was compared with.
///
/// MLflow's Python clients read this text for one decision only (`_get_server_version` in
/// `mlflow/store/tracking/rest_store.py`): from 3.4 on they send spans to `/v1/traces` instead of
/// storing them as artifacts.
pub(crate) const MLFLOW_VERSION: &str = "3.18.0";

pub(crate) fn routes() -> Routes {
    Routes::new(Style::Asgard)
        .get("/health", Permission::Public, health)
        .get("/version", Permission::Public, version)
}

/// Says that the server answers.
#[utoipa::path(get, path = "/health", tag = "platform",
    responses((status = 200, body = String, content_type = "text/plain", example = "OK")))]
pub(crate) async fn health() -> &'static str {
    "OK"
}

/// The MLflow release that this server answers like, for MLflow's clients; asgard's own version
/// is in `/mlops/status`.
#[utoipa::path(get, path = "/version", tag = "platform",
    responses((status = 200, body = String, content_type = "text/plain", example = "3.18.0")))]
pub(crate) async fn version() -> &'static str {
    MLFLOW_VERSION
}
