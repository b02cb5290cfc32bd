//! MLflow's routes of what runs read and made: datasets and logged models.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Permission, Routes};

use super::runs::run_id;
use crate::Tracking;
use crate::dataset::{Dataset, DatasetInput};
use crate::error::Error;
use crate::wire::{
    Empty, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required, required_value,
};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let path = |name: &str| format!("{prefix}/2.0/mlflow/{name}");
    routes
        .post(&path("runs/log-inputs"), WriteTracking, log_inputs)
        .post(&path("runs/outputs"), WriteTracking, log_outputs)
        .post(&path("experiments/search-datasets"), ReadTracking, search)
        // MLflow registers it so, without the slash, under `/api`.
        .post(
            &format!("{prefix}/2.0mlflow/experiments/search-datasets"),
            ReadTracking,
            search,
        )
}

#[derive(Deserialize)]
struct LogInputsRequest {
    run_id: Option<String>,
    #[serde(default)]
    datasets: List<DatasetInputFields>,
    #[serde(default)]
    models: List<ModelFields>,
}

#[derive(Deserialize)]
struct DatasetInputFields {
    #[serde(default)]
    tags: List<KeyValue>,
    dataset: Option<DatasetFields>,
}

#[derive(Deserialize)]
struct DatasetFields {
    name: Option<String>,
    digest: Option<String>,
    source_type: Option<String>,
    source: Option<String>,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct ModelFields {
    model_id: Option<String>,
    step: Option<Int>,
}

#[derive(Deserialize)]
struct LogOutputsRequest {
    run_id: Option<String>,
    models: Option<List<ModelFields>>,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    experiment_ids: List<String>,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_summaries: Vec<Summary>,
}

#[derive(Serialize)]
struct Summary {
    experiment_id: String,
    name: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
}

fn dataset_input(index: usize, fields: DatasetInputFields) -> Result<DatasetInput, Error> {
    let name = |part: &str| format!("datasets[{index}].{part}");
    let dataset = required_value(fields.dataset, &name("dataset"))?;
    Ok(DatasetInput {
        dataset: Dataset {
            name: required(dataset.name, &name("dataset.name"))?,
            digest: required(dataset.digest, &name("dataset.digest"))?,
            source_type: required(dataset.source_type, &name("dataset.source_type"))?,
            source: required(dataset.source, &name("dataset.source"))?,
            schema: dataset.schema,
            profile: dataset.profile,
        },
        tags: pairs(fields.tags, &name("tags"))?,
    })
}

fn model(index: usize, fields: ModelFields) -> Result<(String, i64), Error> {
    let id = required(fields.model_id, &format!("models[{index}].model_id"))?;
    Ok((id, fields.step.map_or(0, |step| step.0)))
}

fn models(list: List<ModelFields>) -> Result<Vec<(String, i64)>, Error> {
    let models = list.0.into_iter().enumerate();
    models.map(|(index, fields)| model(index, fields)).collect()
}

async fn log_inputs(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LogInputsRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, None)?;
    let inputs = request.datasets.0.into_iter().enumerate();
    let inputs = inputs.map(|(index, fields)| dataset_input(index, fields));
    let inputs: Vec<DatasetInput> = inputs.collect::<Result<_, _>>()?;
    let models: Vec<String> = models(request.models)?
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    tracking
        .log_inputs(&id, &inputs, &models, caller.job_id())
        .await?;
    Ok(Json(Empty {}))
}

async fn log_outputs(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LogOutputsRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, None)?;
    let models = models(required_value(request.models, "models")?)?;
    tracking.log_outputs(&id, &models, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let found = tracking.search_datasets(&request.experiment_ids.0).await?;
    let summaries = found.into_iter().map(|summary| Summary {
        experiment_id: summary.experiment_id,
        name: summary.name,
        digest: summary.digest,
        context: summary.context,
    });
    Ok(Json(SearchResponse {
        dataset_summaries: summaries.collect(),
    }))
}
