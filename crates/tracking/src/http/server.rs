//! What a client may ask about the server itself.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use web::{Caller, Permission, Routes};

use crate::Tracking;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    let path = format!("{prefix}/3.0/mlflow/server-info");
    routes.get(&path, Permission::Public, server_info)
}

/// What MLflow 3.18 and its web pages look at before they use newer features.
#[derive(Serialize)]
struct ServerInfo {
    store_type: &'static str,
    workspaces_enabled: bool,
    trace_archival_enabled: bool,
    multipart_uploads_enabled: bool,
    multipart_downloads_enabled: bool,
}

async fn server_info(State(tracking): State<Tracking>, Caller(caller): Caller) -> Json<ServerInfo> {
    // A job in its own network reaches this server and no bucket.
    let signs = caller.job_id().is_none() && tracking.artifacts().advertises_signed_urls();
    Json(ServerInfo {
        store_type: "SqlStore",
        workspaces_enabled: false,
        trace_archival_enabled: false,
        multipart_uploads_enabled: signs,
        multipart_downloads_enabled: signs,
    })
}
