//! MLflow's routes of registered models.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tracking::wire::{Empty, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required};
use web::{Caller, MlflowError, Permission, Routes};

use super::body::{ModelBody, ModelResponse, VersionBody};
use crate::Registry;
use crate::name;
use crate::search::Search;
use crate::stage::Stage;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Registry>, prefix: &str) -> Routes<Registry> {
    use Permission::{ManageModels, ReadTracking, WriteTracking};
    let path = |verb: &str| format!("{prefix}/2.0/mlflow/registered-models/{verb}");
    let latest = path("get-latest-versions");
    routes
        .post(&path("create"), WriteTracking, create)
        .get(&path("get"), ReadTracking, get)
        .get(&path("search"), ReadTracking, search)
        .patch(&path("update"), WriteTracking, update)
        .post(&path("rename"), ManageModels, rename)
        .delete(&path("delete"), ManageModels, delete)
        .post(&path("set-tag"), WriteTracking, set_tag)
        .delete(&path("delete-tag"), ManageModels, delete_tag)
        .get(&latest, ReadTracking, latest_versions)
        .post(&latest, ReadTracking, latest_versions)
}

#[derive(Deserialize)]
struct CreateRequest {
    name: Option<String>,
    #[serde(default)]
    tags: List<KeyValue>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct ModelRequest {
    name: Option<String>,
    new_name: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct TagRequest {
    name: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct LatestRequest {
    name: Option<String>,
    #[serde(default)]
    stages: List<String>,
}

#[derive(Deserialize)]
pub(super) struct SearchRequest {
    filter: Option<String>,
    max_results: Option<Int>,
    #[serde(default)]
    order_by: List<String>,
    page_token: Option<String>,
}

impl From<SearchRequest> for Search {
    fn from(request: SearchRequest) -> Self {
        Self {
            filter: request.filter.unwrap_or_default(),
            order_by: request.order_by.0,
            max_results: request.max_results.map(|n| n.0),
            page_token: request.page_token,
        }
    }
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registered_models: Vec<ModelBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct LatestResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_versions: Vec<VersionBody>,
}

async fn create(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<ModelResponse> {
    let name = required(request.name, "name")?;
    let tags = pairs(request.tags, "tags")?;
    tags.iter()
        .try_for_each(|(key, _)| name::check_not_reserved(key))?;
    let description = request.description.unwrap_or_default();
    let created = registry.create_model(&name, &description, &tags, caller.job_id());
    Ok(Json(created.await?.into()))
}

async fn get(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<ModelRequest>,
) -> MlflowResult<ModelResponse> {
    let name = required(request.name, "name")?;
    Ok(Json(registry.get_model(&name).await?.into()))
}

async fn search(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let (models, next_page_token) = registry.search_models(&request.into()).await?;
    Ok(Json(SearchResponse {
        registered_models: models.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

async fn update(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<ModelRequest>,
) -> MlflowResult<ModelResponse> {
    let name = required(request.name, "name")?;
    let description = request.description.unwrap_or_default();
    let updated = registry.update_model(&name, &description, &caller);
    Ok(Json(updated.await?.into()))
}

async fn rename(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<ModelRequest>,
) -> MlflowResult<ModelResponse> {
    let name = required(request.name, "name")?;
    let new_name = required(request.new_name, "new_name")?;
    Ok(Json(registry.rename_model(&name, &new_name).await?.into()))
}

async fn delete(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<ModelRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    registry.delete_model(&name).await?;
    Ok(Json(Empty {}))
}

async fn set_tag(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let key = required(request.key, "key")?;
    name::check_not_reserved(&key)?;
    let value = request.value.unwrap_or_default();
    registry.set_model_tag(&name, &key, &value, &caller).await?;
    Ok(Json(Empty {}))
}

async fn delete_tag(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let key = required(request.key, "key")?;
    name::check_not_reserved(&key)?;
    registry.delete_model_tag(&name, &key).await?;
    Ok(Json(Empty {}))
}

async fn latest_versions(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<LatestRequest>,
) -> Result<Json<LatestResponse>, MlflowError> {
    let name = required(request.name, "name")?;
    let stages = request.stages.0;
    let stages = match stages.is_empty() {
        true => Stage::ALL.to_vec(),
        false => {
            let read = stages.iter().map(|stage| Stage::required(stage));
            read.collect::<Result<_, _>>()?
        }
    };
    let latest = registry.latest_versions(&name, &stages).await?;
    Ok(Json(LatestResponse {
        model_versions: latest.into_iter().map(Into::into).collect(),
    }))
}
