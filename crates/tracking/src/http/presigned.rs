//! URLs by which clients read and write single files of the bucket themselves.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use web::{Caller, Identity, Permission, Routes};

use super::artifacts::decoded;
use crate::Tracking;
use crate::artifact::bucket::MAX_URL_LIFE;
use crate::error::Error;
use crate::location::Location;
use crate::owner::Change;
use crate::wire::{Int, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let proxied = format!("{prefix}/2.0/mlflow-artifacts/presigned/{{*path}}");
    let download = format!("{prefix}/2.0/mlflow/artifacts/presigned-download-url");
    let upload = format!("{prefix}/2.0/mlflow/artifacts/presigned-upload-url");
    routes
        .get(&proxied, ReadTracking, get)
        .post(&download, ReadTracking, create_download)
        .post(&upload, WriteTracking, create_upload)
}

/// The headers that a request to the bucket must carry: none, all is in the URL.
#[derive(Serialize)]
pub(super) struct Headers {}

#[derive(Serialize)]
struct PresignedResponse {
    url: String,
    headers: Headers,
    file_size: u64,
}

#[derive(Deserialize)]
struct CreateUrlRequest {
    run_id: Option<String>,
    model_id: Option<String>,
    path: Option<String>,
    expiration: Option<Int>,
}

#[derive(Serialize)]
struct CreateUrlResponse {
    presigned_url: String,
    headers: Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_size: Option<u64>,
}

async fn get(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
) -> MlflowResult<PresignedResponse> {
    let file = decoded(path)?;
    refuse_job(&caller, "Presigned URLs are not supported")?;
    let artifacts = tracking.artifacts();
    let (url, file_size) = artifacts.sign_download(&file, artifacts.url_life()).await?;
    Ok(Json(PresignedResponse {
        url,
        headers: Headers {},
        file_size,
    }))
}

async fn create_download(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateUrlRequest>,
) -> MlflowResult<CreateUrlResponse> {
    refuse_job(&caller, "Presigned URLs are not supported")?;
    let life = life(&tracking, request.expiration)?;
    let file = place(&tracking, &request).await?;
    let (url, size_bytes) = tracking.artifacts().sign_download(&file, life).await?;
    Ok(Json(CreateUrlResponse {
        presigned_url: url,
        headers: Headers {},
        file_size: Some(size_bytes),
    }))
}

async fn create_upload(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateUrlRequest>,
) -> MlflowResult<CreateUrlResponse> {
    // No longer than the server's own: the file may become a registered version's meanwhile.
    let life = life(&tracking, request.expiration)?.min(tracking.artifacts().url_life());
    let file = place(&tracking, &request).await?;
    let allowed = tracking.check_may_change_artifact(&caller, &file, Change::Write);
    allowed.await?;
    refuse_job(&caller, "Presigned URLs are not supported")?;
    Ok(Json(CreateUrlResponse {
        presigned_url: tracking.artifacts().sign_upload(&file, life).await?,
        headers: Headers {},
        file_size: None,
    }))
}

/// A job in its own network reaches this server and no bucket; its client then sends and reads
/// files here.
pub(super) fn refuse_job(caller: &Identity, refusal: &str) -> Result<(), Error> {
    match caller.job_id() {
        Some(_) => Err(Error::NotImplemented(format!(
            "{refusal} for the current artifact repository in a job"
        ))),
        None => Ok(()),
    }
}

/// The file of a run or of a logged model.
async fn place(tracking: &Tracking, request: &CreateUrlRequest) -> Result<Location, Error> {
    let given = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let root = match (given(&request.run_id), given(&request.model_id)) {
        (Some(run_id), None) => tracking.get_run(&run_id).await?.artifact_uri,
        (None, Some(model_id)) => tracking.get_logged_model(&model_id).await?.artifact_uri,
        _ => {
            let message = "Exactly one of run_id and model_id must be provided.";
            return Err(Error::Invalid(message.to_owned()));
        }
    };
    let path = required(request.path.clone(), "path")?;
    Location::parse_uri(&root)?.join(&path)
}

fn life(tracking: &Tracking, expiration: Option<Int>) -> Result<Duration, Error> {
    let Some(Int(seconds)) = expiration else {
        return Ok(tracking.artifacts().url_life());
    };
    let life = u64::try_from(seconds).map(Duration::from_secs);
    life.ok()
        .filter(|life| (Duration::from_secs(1)..=MAX_URL_LIFE).contains(life))
        .ok_or_else(|| {
            let reason = "it must be between 1 and 604800 seconds";
            Error::field("expiration", seconds.to_string(), reason)
        })
}
