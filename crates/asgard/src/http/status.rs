//! `GET /mlops/status`: whether the platform works, and how much is in it.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::Serialize;
use utoipa::ToSchema;
use web::{Json, Permission, Routes, Style, Timestamp};

use crate::status::{Status, Storage};

pub(crate) fn routes(status: Status) -> Routes {
    Routes::new(Style::Asgard)
        .get("/mlops/status", Permission::ReadPlatform, get)
        .with_state(status)
}

/// The platform's state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusResponse {
    /// What to set `MLFLOW_TRACKING_URI` to: this server.
    mlflow_tracking_uri: String,
    /// Whether tracking and registry answer.
    mlflow_available: bool,
    /// Why they do not.
    mlflow_error: Option<String>,
    /// Whether the feature store answers.
    feast_store_available: bool,
    registered_models: i64,
    active_experiments: i64,
    feature_views: i64,
    timestamp: Timestamp,
    /// asgard's version.
    version: &'static str,
    uptime_seconds: u64,
    /// Training jobs that wait for their turn.
    queue_depth: i64,
    storage: StorageResponse,
}

/// Where data goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageResponse {
    /// `sqlite` or `postgres`.
    database: &'static str,
    /// Whether artifacts can be written; null until first tried.
    artifacts_writable: Option<bool>,
    /// Why they cannot.
    artifacts_error: Option<String>,
}

/// Tells whether the platform works, and how much is in it.
#[utoipa::path(get, path = "/mlops/status", tag = "platform",
    responses((status = 200, body = StatusResponse)))]
pub(crate) async fn get(State(status): State<Status>, headers: HeaderMap) -> Json<StatusResponse> {
    let counts = status.counts().await;
    let Storage { writable, error } = status.storage();
    Json(StatusResponse {
        mlflow_tracking_uri: tracking_uri(&status, &headers),
        mlflow_available: counts.available,
        mlflow_error: counts.error,
        feast_store_available: counts.feature_views.is_some(),
        registered_models: counts.registered_models,
        active_experiments: counts.active_experiments,
        feature_views: counts.feature_views.unwrap_or(0),
        timestamp: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: status.uptime().as_secs(),
        queue_depth: counts.queue_depth,
        storage: StorageResponse {
            database: status.database(),
            artifacts_writable: writable,
            artifacts_error: error,
        },
    })
}

/// The configured address, else the one that this caller used: it works for them.
fn tracking_uri(status: &Status, headers: &HeaderMap) -> String {
    if let Some(url) = status.public_url() {
        return url.to_owned();
    }
    match headers.get(header::HOST).and_then(|h| h.to_str().ok()) {
        Some(host) => format!("http://{host}"),
        None => status.listen_url().to_owned(),
    }
}
