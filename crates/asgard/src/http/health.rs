//! Answers for load balancers and for MLflow clients that ask what they speak to.

use web::{Permission, Routes, Style};

/// The MLflow release that asgard says it is.
///
/// MLflow's Python clients read this text for one decision only (`_get_server_version` in
/// `mlflow/store/tracking/rest_store.py`): from 3.4 on they send spans to `/v1/traces`, which
/// asgard does not answer; told of an older server they leave it.
pub(crate) const MLFLOW_VERSION: &str = "3.3.2";

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
    responses((status = 200, body = String, content_type = "text/plain", example = "3.3.2")))]
pub(crate) async fn version() -> &'static str {
    MLFLOW_VERSION
}
