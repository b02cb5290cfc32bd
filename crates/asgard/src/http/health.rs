//! Answers for load balancers and for MLflow clients that ask what they speak to.

use web::{Permission, Routes, Style};

/// The MLflow release whose REST API asgard answers.
///
/// MLflow clients read this text from `/version` (`mlflow/utils/rest_utils.py`, only when tracing
/// starts) to decide what they may send.
pub(crate) const MLFLOW_VERSION: &str = "3.5.1";

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

/// The MLflow release whose REST API this server speaks, as MLflow's own server answers it.
/// asgard's version is in `/mlops/status`.
#[utoipa::path(get, path = "/version", tag = "platform",
    responses((status = 200, body = String, content_type = "text/plain", example = "3.5.1")))]
pub(crate) async fn version() -> &'static str {
    MLFLOW_VERSION
}
