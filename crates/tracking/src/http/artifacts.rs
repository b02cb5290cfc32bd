//! Artifacts over HTTP: the proxy that clients write to and read from, and the listings by run.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use web::{Caller, Identity, MlflowError, Permission, Routes};

use super::download::download;
use crate::Tracking;
use crate::artifact::ArtifactEntry;
use crate::error::Error;
use crate::location::Location;
use crate::owner::Change;
use crate::wire::MlflowRequest;

/// Why an upload ended: its body broke off, or it was not allowed any more.
type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let proxy = format!("{prefix}/2.0/mlflow-artifacts");
    let file = format!("{proxy}/artifacts/{{*path}}");
    let listing = format!("{prefix}/2.0/mlflow/artifacts/list");
    routes
        .get(&format!("{proxy}/artifacts"), ReadTracking, list_proxied)
        .get(&file, ReadTracking, get)
        .put(&file, WriteTracking, put)
        .delete(&file, WriteTracking, delete)
        .get(&listing, ReadTracking, list_of_run)
}

/// The route that MLflow's page downloads a run's files from.
pub(super) fn add_bare(routes: Routes<Tracking>) -> Routes<Tracking> {
    routes.get("/get-artifact", Permission::ReadTracking, get_of_run)
}

#[derive(Deserialize)]
struct ListProxiedQuery {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
struct RunArtifactQuery {
    run_id: Option<String>,
    run_uuid: Option<String>,
    path: Option<String>,
}

impl RunArtifactQuery {
    fn run_id(&self) -> Result<&str, Error> {
        let given = self.run_id.as_deref().or(self.run_uuid.as_deref());
        given
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Error::Missing("run_id".to_owned()))
    }
}

/// MLflow's `FileInfo`.
#[derive(Serialize)]
struct FileInfo {
    path: String,
    is_dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct ListResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    root_uri: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileInfo>,
}

async fn list_proxied(
    State(tracking): State<Tracking>,
    MlflowRequest(query): MlflowRequest<ListProxiedQuery>,
) -> Result<Json<ListResponse>, MlflowError> {
    let folder = Location::root().join(&query.path)?;
    let entries = tracking.artifacts().list(&folder).await?;
    Ok(Json(ListResponse {
        root_uri: None,
        files: entries.into_iter().map(|e| file_info("", e)).collect(),
    }))
}

async fn list_of_run(
    State(tracking): State<Tracking>,
    MlflowRequest(query): MlflowRequest<RunArtifactQuery>,
) -> Result<Json<ListResponse>, MlflowError> {
    let run = tracking.get_run(query.run_id()?).await?;
    let path = query.path.as_deref().unwrap_or_default();
    Ok(Json(list_below(&tracking, &run.artifact_uri, path).await?))
}

/// Lists a folder below the root of a run or logged model; the paths are relative to the root.
pub(super) async fn list_below(
    tracking: &Tracking,
    root_uri: &str,
    path: &str,
) -> Result<ListResponse, Error> {
    let root = Location::parse_uri(root_uri)?;
    let folder = root.join(path)?;
    let entries = tracking.artifacts().list(&folder).await?;
    let parent = folder.below(&root).unwrap_or_default();
    Ok(ListResponse {
        root_uri: Some(root_uri.to_owned()),
        files: entries.into_iter().map(|e| file_info(parent, e)).collect(),
    })
}

fn file_info(parent: &str, entry: ArtifactEntry) -> FileInfo {
    FileInfo {
        path: match parent {
            "" => entry.path,
            parent => format!("{parent}/{}", entry.path),
        },
        is_dir: entry.is_dir,
        file_size: entry.size_bytes,
    }
}

async fn get(
    State(tracking): State<Tracking>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, MlflowError> {
    let file = decoded(path)?;
    Ok(download(tracking.artifacts(), &file, &headers).await?)
}

async fn get_of_run(
    State(tracking): State<Tracking>,
    headers: HeaderMap,
    MlflowRequest(query): MlflowRequest<RunArtifactQuery>,
) -> Result<Response, MlflowError> {
    let path = query.path.as_deref().unwrap_or_default();
    let run = tracking.get_run(query.run_id()?).await?;
    let file = Location::parse_uri(&run.artifact_uri)?.join(path)?;
    Ok(download(tracking.artifacts(), &file, &headers).await?)
}

async fn put(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
    body: Body,
) -> Result<StatusCode, MlflowError> {
    let file = decoded(path)?;
    let stored = store(&tracking, &caller, &file, body).await;
    if let Some(job_id) = caller.job_id() {
        match &stored {
            Ok(()) => tracking.failed_uploads.stored(job_id, &file),
            Err(error) => tracking.failed_uploads.failed(job_id, &file, error),
        }
    }
    stored?;
    Ok(StatusCode::OK)
}

async fn store(
    tracking: &Tracking,
    caller: &Identity,
    file: &Location,
    body: Body,
) -> Result<(), Error> {
    let allowed = || tracking.check_may_change_artifact(caller, file, Change::Write);
    allowed().await?;
    // A body may take its time, and the file become a registered version's meanwhile: it is asked
    // again at the body's end, before the file is shown under its name.
    let still = async { allowed().await.map(|()| Bytes::new()) };
    let content = body
        .into_data_stream()
        .map_err(Refusal::from)
        .chain(stream::once(still).map_err(Refusal::from));
    match tracking.artifacts().put(file, content).await {
        Ok(_) => Ok(()),
        Err(Error::Upload(source)) => Err(match source.downcast::<Error>() {
            Ok(refused) => *refused,
            Err(source) => Error::Upload(source),
        }),
        Err(error) => Err(error),
    }
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, MlflowError> {
    let place = decoded(path)?;
    let allowed = tracking.check_may_change_artifact(&caller, &place, Change::Delete);
    allowed.await?;
    tracking.artifacts().delete(&place).await?;
    Ok(Json(json!({})).into_response())
}

/// The place that a URL names, percent-decoded once by the router.
pub(super) fn decoded(path: Result<Path<String>, PathRejection>) -> Result<Location, Error> {
    let Path(path) = path.map_err(|rejection| Error::InvalidPath {
        path: rejection.body_text(),
        reason: "it is not UTF-8",
    })?;
    Location::root().join(&path)
}
