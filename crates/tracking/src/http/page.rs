//! What only MLflow's page asks for: uploading a file to a run, and parts of MLflow that asgard
//! does not have, whose absence is told as MLflow tells it.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, State};
use serde::Deserialize;
use serde_json::{Value, json};
use web::{Caller, Permission, Routes};

use crate::Tracking;
use crate::error::Error;
use crate::location::Location;
use crate::owner::Change;
use crate::wire::{Empty, MlflowResult, parse_query};

/// The largest file that the page may upload, in bytes.
const MAX_UPLOAD: usize = 10 * 1024 * 1024;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let upload_path = format!("{prefix}/2.0/mlflow/upload-artifact");
    let gateway = format!("{prefix}/2.0/mlflow/gateway-proxy");
    let telemetry_path = format!("{prefix}/3.0/mlflow/ui-telemetry");
    let routes = routes
        .post(&upload_path, WriteTracking, upload)
        .get(&gateway, ReadTracking, no_gateway)
        .post(&gateway, ReadTracking, no_gateway)
        .get(&telemetry_path, ReadTracking, telemetry)
        .post(&telemetry_path, ReadTracking, no_telemetry);
    if prefix != "/ajax-api" {
        return routes;
    }
    // To programs these are unknown, as they are to an MLflow without its user database.
    let assistant = format!("{prefix}/3.0/mlflow/assistant");
    routes
        .get("/ajax-api/2.0/mlflow/users/current", ReadTracking, no_user)
        .get(&format!("{assistant}/config"), ReadTracking, no_assistant)
        .get(
            &format!("{assistant}/providers"),
            ReadTracking,
            no_providers,
        )
}

#[derive(Deserialize)]
struct UploadQuery {
    run_id: Option<String>,
    run_uuid: Option<String>,
    path: Option<String>,
}

async fn upload(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    RawQuery(query): RawQuery,
    body: Body,
) -> MlflowResult<Empty> {
    let query: UploadQuery = parse_query(&query.unwrap_or_default())?;
    let must = |what: &str| Error::Invalid(format!("Request must specify {what}."));
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let run_id = given(query.run_id).or(given(query.run_uuid));
    let run_id = run_id.ok_or_else(|| must("run_id or run_uuid"))?;
    let path = given(query.path).ok_or_else(|| must("path"))?;
    Location::root().join(&path)?;
    let content = to_bytes(body, MAX_UPLOAD)
        .await
        .map_err(|_| Error::Invalid("Artifact size is too large. Max size is 10MB.".to_owned()))?;
    if content.is_empty() {
        return Err(must("data").into());
    }
    let run = tracking.get_run(&run_id).await?;
    let file = Location::parse_uri(&run.artifact_uri)?.join(&path)?;
    let allowed = tracking.check_may_change_artifact(&caller, &file, Change::Write);
    allowed.await?;
    let content = Body::from(content).into_data_stream();
    tracking.artifacts().put(&file, content).await?;
    Ok(Json(Empty {}))
}

/// An MLflow that no gateway was named to answers so, whatever was asked.
async fn no_gateway() -> Json<Value> {
    Json(json!({ "endpoints": [] }))
}

/// The page then knows of no users, and shows no account.
async fn no_user() -> Json<Empty> {
    Json(Empty {})
}

async fn no_assistant() -> Json<Value> {
    Json(json!({
        "providers": {},
        "projects": {},
        "remote_access_allowed": false,
        "can_edit_server_settings": false,
    }))
}

async fn no_providers() -> Json<Value> {
    Json(json!({ "providers": [], "resolved": null, "gateway_vendor_options": {} }))
}

/// Nobody is told how the page is used.
async fn telemetry() -> Json<Value> {
    Json(json!({
        "disable_ui_telemetry": true,
        "disable_ui_events": [],
        "ui_rollout_percentage": 0,
    }))
}

async fn no_telemetry() -> Json<Value> {
    Json(json!({ "status": "disabled" }))
}
