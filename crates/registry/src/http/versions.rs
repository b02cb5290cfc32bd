//! MLflow's routes of model versions.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tracking::wire::{
    Choice, Empty, Flag, KeyValue, List, MlflowRequest, MlflowResult, pairs, required,
};
use web::{Caller, MlflowError, Permission, Routes};

use super::body::{VersionBody, VersionResponse, version_number};
use super::models::SearchRequest;
use crate::Registry;
use crate::name;
use crate::stage::Stage;
use crate::version::NewVersion;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Registry>, prefix: &str) -> Routes<Registry> {
    use Permission::{ManageModels, PromoteVersions, ReadTracking, WriteTracking};
    let path = |verb: &str| format!("{prefix}/2.0/mlflow/model-versions/{verb}");
    routes
        .post(&path("create"), WriteTracking, create)
        .get(&path("get"), ReadTracking, get)
        .get(&path("search"), ReadTracking, search)
        .patch(&path("update"), WriteTracking, update)
        .delete(&path("delete"), ManageModels, delete)
        .post(&path("transition-stage"), PromoteVersions, transition)
        .get(&path("get-download-uri"), ReadTracking, download_uri)
        .post(&path("set-tag"), WriteTracking, set_tag)
        .delete(&path("delete-tag"), ManageModels, delete_tag)
}

/// The route that MLflow's page downloads a version's files from.
pub(super) fn add_bare(routes: Routes<Registry>) -> Routes<Registry> {
    let path = "/model-versions/get-artifact";
    routes.get(path, Permission::ReadTracking, get_artifact)
}

#[derive(Deserialize)]
struct CreateRequest {
    name: Option<String>,
    source: Option<String>,
    run_id: Option<String>,
    run_link: Option<String>,
    model_id: Option<String>,
    description: Option<String>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct VersionRequest {
    name: Option<String>,
    version: Option<Choice>,
    description: Option<String>,
    stage: Option<String>,
    archive_existing_versions: Option<Flag>,
    key: Option<String>,
    value: Option<String>,
    path: Option<String>,
    presigned: Option<Flag>,
}

impl VersionRequest {
    fn id(&self) -> Result<(String, i64), MlflowError> {
        let name = required(self.name.clone(), "name")?;
        Ok((name, version_number(self.version.as_ref())?))
    }
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_versions: Vec<VersionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct UriResponse {
    artifact_uri: String,
}

async fn create(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<VersionResponse> {
    let source = required(request.source, "source")?;
    let mut tags = pairs(request.tags, "tags")?;
    if source.starts_with("models:/") {
        // `copy_model_version` sends the tags of the version that it copies; the server sets its own.
        tags.retain(|(key, _)| name::check_not_reserved(key).is_ok());
    }
    tags.iter()
        .try_for_each(|(key, _)| name::check_not_reserved(key))?;
    let new = NewVersion {
        name: required(request.name, "name")?,
        source,
        run_id: request.run_id,
        run_link: request.run_link,
        model_id: request.model_id,
        description: request.description,
        tags,
        job_id: caller.job_id().map(str::to_owned),
    };
    let version = registry.create_version(new).await?;
    // The version is there: a client that was told otherwise would make another.
    if let Err(error) = registry.link(&version, &caller).await {
        tracing::warn!(%error, model_id = version.model_id, "a logged model does not list its version");
    }
    Ok(Json(version.into()))
}

async fn get(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<VersionResponse> {
    let (name, version) = request.id()?;
    Ok(Json(registry.get_version(&name, version).await?.into()))
}

async fn search(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let (versions, next_page_token) = registry.search_versions(&request.into()).await?;
    Ok(Json(SearchResponse {
        model_versions: versions.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

async fn update(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<VersionResponse> {
    let (name, version) = request.id()?;
    let description = request.description.unwrap_or_default();
    let updated = registry.update_version(&name, version, &description, &caller);
    Ok(Json(updated.await?.into()))
}

async fn delete(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<Empty> {
    let (name, version) = request.id()?;
    registry.delete_version(&name, version).await?;
    Ok(Json(Empty {}))
}

async fn transition(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<VersionResponse> {
    let (name, version) = request.id()?;
    let stage = Stage::required(&required(request.stage, "stage")?)?;
    let archive = request.archive_existing_versions.is_some_and(|flag| flag.0);
    let moved = registry.transition_version(&caller, &name, version, stage, archive);
    Ok(Json(moved.await?.into()))
}

async fn download_uri(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<UriResponse> {
    let (name, version) = request.id()?;
    let version = registry.get_version(&name, version).await?;
    Ok(Json(UriResponse {
        artifact_uri: version.location,
    }))
}

async fn set_tag(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<Empty> {
    let (name, version) = request.id()?;
    let key = required(request.key, "key")?;
    name::check_not_reserved(&key)?;
    let value = request.value.unwrap_or_default();
    let set = registry.set_version_tag_as(&caller, &name, version, &key, &value);
    set.await?;
    Ok(Json(Empty {}))
}

async fn delete_tag(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> MlflowResult<Empty> {
    let (name, version) = request.id()?;
    let key = required(request.key, "key")?;
    name::check_not_reserved(&key)?;
    registry.delete_version_tag(&name, version, &key).await?;
    Ok(Json(Empty {}))
}

async fn get_artifact(
    State(registry): State<Registry>,
    headers: HeaderMap,
    MlflowRequest(request): MlflowRequest<VersionRequest>,
) -> Result<Response, MlflowError> {
    if request.presigned.is_some_and(|flag| flag.0) {
        // MLflow's page asks again without it.
        let message = "Presigned URLs are not supported for the current artifact repository";
        return Err(tracking::Error::NotImplemented(message.to_owned()).into());
    }
    let (name, version) = request.id()?;
    let path = required(request.path, "path")?;
    tracking::Location::root().join(&path)?;
    let version = registry.get_version(&name, version).await?;
    let file = registry.location(&version).await?.join(&path)?;
    let artifacts = registry.tracking().artifacts();
    Ok(tracking::download(artifacts, &file, &headers).await?)
}
