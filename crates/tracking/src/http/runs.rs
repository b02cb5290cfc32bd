//! MLflow's routes of runs: create, read, search, update, delete.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use web::{Caller, MlflowError, Permission, Routes};

use super::experiments::view;
use super::run_json::{RunInfo, RunResponse};
use super::run_page;
use crate::Tracking;
use crate::error::Error;
use crate::record::RunRecord;
use crate::run::{LifecycleStage, NewRun, RunStatus, RunUpdate};
use crate::search::runs::RunSearch;
use crate::wire::{
    Choice, Empty, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required,
};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let path = |name: &str| format!("{prefix}/2.0/mlflow/runs/{name}");
    routes
        .post(&path("create"), WriteTracking, create)
        .get(&path("get"), ReadTracking, get)
        .post(&path("search"), ReadTracking, search)
        .post(&path("update"), WriteTracking, update)
        .post(&path("delete"), WriteTracking, delete)
        .post(&path("restore"), WriteTracking, restore)
}

#[derive(Deserialize)]
struct CreateRequest {
    experiment_id: Option<String>,
    user_id: Option<String>,
    run_name: Option<String>,
    start_time: Option<Int>,
    #[serde(default)]
    tags: List<KeyValue>,
}

/// Clients of 2.x send both names of the id.
#[derive(Deserialize)]
struct RunRequest {
    run_id: Option<String>,
    run_uuid: Option<String>,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    experiment_ids: List<String>,
    filter: Option<String>,
    #[serde(default)]
    order_by: List<String>,
    run_view_type: Option<Choice>,
    page_token: Option<String>,
    max_results: Option<Int>,
}

#[derive(Deserialize)]
struct UpdateRequest {
    run_id: Option<String>,
    run_uuid: Option<String>,
    status: Option<Choice>,
    end_time: Option<Int>,
    run_name: Option<String>,
}

#[derive(Serialize)]
struct UpdateResponse {
    run_info: RunInfo,
}

/// The id of a run by either of its names.
pub(super) fn run_id(run_id: Option<String>, run_uuid: Option<String>) -> Result<String, Error> {
    required(run_id.filter(|id| !id.is_empty()).or(run_uuid), "run_id")
}

fn status(choice: Option<Choice>) -> Option<RunStatus> {
    match choice? {
        Choice::Name(name) => RunStatus::parse(&name),
        Choice::Number(number) => RunStatus::from_number(number),
    }
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<RunResponse> {
    let experiment_id = request.experiment_id.filter(|id| !id.is_empty());
    let new = NewRun {
        experiment_id: experiment_id.unwrap_or_else(|| "0".to_owned()),
        name: request.run_name,
        start_time: request.start_time.map(|time| time.0),
        user_id: request.user_id.unwrap_or_default(),
        tags: pairs(request.tags, "tags")?,
        job_id: caller.job_id().map(str::to_owned),
    };
    let (run, tags) = tracking.create_run_with_tags(new).await?;
    let mut record = RunRecord::empty(run);
    record.tags = tags.into_iter().collect();
    Ok(Json(RunResponse { run: record.into() }))
}

async fn get(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<RunRequest>,
) -> MlflowResult<RunResponse> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let run = tracking.get_run_record(&id).await?.into();
    Ok(Json(RunResponse { run }))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> Result<Response, MlflowError> {
    let search = RunSearch {
        experiment_ids: request.experiment_ids.0,
        filter: request.filter.unwrap_or_default(),
        order_by: request.order_by.0,
        view: view(request.run_view_type),
        page_token: request.page_token,
        max_results: request.max_results.map(|value| value.0),
    };
    let found = tracking.search_runs(&search, run_page::PIECE).await?;
    Ok(run_page::answer(tracking, found))
}

async fn update(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<UpdateRequest>,
) -> MlflowResult<UpdateResponse> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let update = RunUpdate {
        status: status(request.status),
        end_time: request.end_time.map(|time| time.0),
        name: request.run_name,
    };
    let run = tracking.update_run(&id, update, caller.job_id()).await?;
    let run_info = run.into();
    Ok(Json(UpdateResponse { run_info }))
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<RunRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let stage = LifecycleStage::Deleted;
    tracking.set_run_stage(&id, stage, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn restore(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<RunRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let stage = LifecycleStage::Active;
    tracking.set_run_stage(&id, stage, caller.job_id()).await?;
    Ok(Json(Empty {}))
}
