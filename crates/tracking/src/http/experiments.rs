//! MLflow's routes of experiments.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Permission, Routes, Timestamp};

use crate::experiment::{Experiment, NewExperiment};
use crate::run::LifecycleStage;
use crate::search::experiments::ExperimentSearch;
use crate::search::runs::View;
use crate::wire::{
    Choice, Empty, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required,
};
use crate::{Tracking, key};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ManageModels, ReadTracking, WriteTracking};
    let path = |name: &str| format!("{prefix}/2.0/mlflow/experiments/{name}");
    routes
        .post(&path("create"), WriteTracking, create)
        .get(&path("get"), ReadTracking, get)
        .get(&path("get-by-name"), ReadTracking, get_by_name)
        .post(&path("search"), ReadTracking, search)
        .get(&path("search"), ReadTracking, search)
        .post(&path("update"), WriteTracking, update)
        .post(&path("delete"), ManageModels, delete)
        .post(&path("restore"), ManageModels, restore)
        .post(&path("set-experiment-tag"), WriteTracking, set_tag)
        .post(&path("delete-experiment-tag"), WriteTracking, delete_tag)
}

#[derive(Deserialize)]
struct CreateRequest {
    name: Option<String>,
    artifact_location: Option<String>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct ExperimentRequest {
    experiment_id: Option<String>,
}

#[derive(Deserialize)]
struct NameRequest {
    experiment_name: Option<String>,
}

#[derive(Deserialize)]
struct SearchRequest {
    filter: Option<String>,
    #[serde(default)]
    order_by: List<String>,
    view_type: Option<Choice>,
    page_token: Option<String>,
    max_results: Option<Int>,
}

#[derive(Deserialize)]
struct UpdateRequest {
    experiment_id: Option<String>,
    new_name: Option<String>,
}

#[derive(Deserialize)]
struct TagRequest {
    experiment_id: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

#[derive(Serialize)]
struct CreateResponse {
    experiment_id: String,
}

#[derive(Serialize)]
struct ExperimentResponse {
    experiment: ExperimentJson,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiments: Vec<ExperimentJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct ExperimentJson {
    experiment_id: String,
    name: String,
    artifact_location: String,
    lifecycle_stage: &'static str,
    last_update_time: i64,
    creation_time: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
}

impl From<Experiment> for ExperimentJson {
    fn from(experiment: Experiment) -> Self {
        Self {
            experiment_id: experiment.experiment_id,
            name: experiment.name,
            artifact_location: experiment.artifact_location,
            lifecycle_stage: experiment.lifecycle_stage.as_str(),
            last_update_time: experiment.last_update_time,
            creation_time: experiment.creation_time,
            tags: experiment.tags.into_iter().map(KeyValue::from).collect(),
        }
    }
}

/// Reads a ViewType (`service.proto`); unknown ones are ignored.
pub(super) fn view(choice: Option<Choice>) -> View {
    match choice {
        Some(Choice::Name(name)) if name == "DELETED_ONLY" => View::Deleted,
        Some(Choice::Name(name)) if name == "ALL" => View::All,
        Some(Choice::Number(2)) => View::Deleted,
        Some(Choice::Number(3)) => View::All,
        _ => View::Active,
    }
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<CreateResponse> {
    let new = NewExperiment {
        name: required(request.name, "name")?,
        artifact_location: request.artifact_location,
        tags: pairs(request.tags, "tags")?,
        job_id: caller.job_id().map(str::to_owned),
    };
    let experiment = tracking.create_experiment(new, Timestamp::now().0).await?;
    Ok(Json(CreateResponse {
        experiment_id: experiment.experiment_id,
    }))
}

async fn get(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ExperimentRequest>,
) -> MlflowResult<ExperimentResponse> {
    let id = required(request.experiment_id, "experiment_id")?;
    let experiment = tracking.get_experiment(&id).await?.into();
    Ok(Json(ExperimentResponse { experiment }))
}

async fn get_by_name(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<NameRequest>,
) -> MlflowResult<ExperimentResponse> {
    let name = required(request.experiment_name, "experiment_name")?;
    let experiment = tracking.get_experiment_by_name(&name).await?.into();
    Ok(Json(ExperimentResponse { experiment }))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let search = ExperimentSearch {
        filter: request.filter.unwrap_or_default(),
        order_by: request.order_by.0,
        view: view(request.view_type),
        page_token: request.page_token,
        // Absent is 0 in protobuf, which is refused.
        max_results: request.max_results.map_or(0, |value| value.0),
    };
    let (found, next_page_token) = tracking.search_experiments(&search).await?;
    Ok(Json(SearchResponse {
        experiments: found.into_iter().map(ExperimentJson::from).collect(),
        next_page_token,
    }))
}

async fn update(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<UpdateRequest>,
) -> MlflowResult<Empty> {
    let id = required(request.experiment_id, "experiment_id")?;
    let name = required(request.new_name, "new_name")?;
    let now = Timestamp::now().0;
    tracking
        .rename_experiment(&id, &name, caller.job_id(), now)
        .await?;
    Ok(Json(Empty {}))
}

async fn delete(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ExperimentRequest>,
) -> MlflowResult<Empty> {
    set_stage(&tracking, request, LifecycleStage::Deleted).await
}

async fn restore(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ExperimentRequest>,
) -> MlflowResult<Empty> {
    set_stage(&tracking, request, LifecycleStage::Active).await
}

async fn set_stage(
    tracking: &Tracking,
    request: ExperimentRequest,
    stage: LifecycleStage,
) -> MlflowResult<Empty> {
    let id = required(request.experiment_id, "experiment_id")?;
    let now = Timestamp::now().0;
    tracking.set_experiment_stage(&id, stage, now).await?;
    Ok(Json(Empty {}))
}

async fn set_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> MlflowResult<Empty> {
    let id = required(request.experiment_id, "experiment_id")?;
    let key = required(request.key, "key")?;
    key::check(&key, "key")?;
    let value = request.value.unwrap_or_default();
    let now = Timestamp::now().0;
    tracking
        .set_experiment_tag(&id, (key, value), caller.job_id(), now)
        .await?;
    Ok(Json(Empty {}))
}

async fn delete_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> MlflowResult<Empty> {
    let id = required(request.experiment_id, "experiment_id")?;
    let key = required(request.key, "key")?;
    let now = Timestamp::now().0;
    tracking
        .delete_experiment_tag(&id, &key, caller.job_id(), now)
        .await?;
    Ok(Json(Empty {}))
}
