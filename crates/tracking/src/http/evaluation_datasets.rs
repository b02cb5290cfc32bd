//! MLflow's routes of evaluation datasets (`datasets.proto`).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Path, Permission, Routes};

use crate::Tracking;
use crate::evaluation_dataset::{EvaluationDataset, NewEvaluationDataset, read_tags};
use crate::search::evaluation_datasets::EvaluationDatasetSearch;
use crate::wire::{Empty, Int, List, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let all = format!("{prefix}/3.0/mlflow/datasets");
    let one = format!("{all}/{{dataset_id}}");
    let search_path = format!("{all}/search");
    let tag = format!("{one}/tags/{{key}}");
    routes
        .post(&format!("{all}/create"), WriteTracking, create)
        .post(&search_path, ReadTracking, search)
        .get(&search_path, ReadTracking, search)
        .get(&one, ReadTracking, get)
        .delete(&one, WriteTracking, delete)
        .patch(&format!("{one}/tags"), WriteTracking, set_tags)
        .delete(&tag, WriteTracking, delete_tag)
        .get(
            &format!("{one}/experiment-ids"),
            ReadTracking,
            list_experiments,
        )
        .post(&format!("{one}/add-experiments"), WriteTracking, link)
        .post(&format!("{one}/remove-experiments"), WriteTracking, unlink)
}

#[derive(Deserialize)]
struct CreateRequest {
    name: Option<String>,
    #[serde(default)]
    experiment_ids: List<String>,
    /// A JSON object.
    tags: Option<String>,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    experiment_ids: List<String>,
    #[serde(default)]
    filter_string: String,
    #[serde(default)]
    order_by: List<String>,
    max_results: Option<Int>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct TagsRequest {
    tags: Option<String>,
}

#[derive(Deserialize)]
struct ExperimentsRequest {
    #[serde(default)]
    experiment_ids: List<String>,
}

#[derive(Serialize)]
struct DatasetResponse {
    dataset: DatasetJson,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<DatasetJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct ExperimentsResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiment_ids: Vec<String>,
}

#[derive(Serialize)]
struct DatasetJson {
    dataset_id: String,
    name: String,
    /// A JSON object, as in requests.
    tags: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    digest: String,
    created_time: i64,
    last_update_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated_by: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiment_ids: Vec<String>,
}

impl From<EvaluationDataset> for DatasetJson {
    fn from(dataset: EvaluationDataset) -> Self {
        Self {
            tags: serde_json::json!(dataset.tags).to_string(),
            dataset_id: dataset.dataset_id,
            name: dataset.name,
            schema: dataset.schema,
            profile: dataset.profile,
            digest: dataset.digest,
            created_time: dataset.created_time,
            last_update_time: dataset.last_update_time,
            created_by: dataset.created_by,
            last_updated_by: dataset.last_updated_by,
            experiment_ids: dataset.experiment_ids,
        }
    }
}

fn answer(dataset: EvaluationDataset) -> Json<DatasetResponse> {
    Json(DatasetResponse {
        dataset: dataset.into(),
    })
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<DatasetResponse> {
    let tags = request.tags.filter(|text| !text.is_empty());
    let new = NewEvaluationDataset {
        name: required(request.name, "name")?,
        tags: tags
            .map(|text| read_tags(&text))
            .transpose()?
            .unwrap_or_default(),
        experiment_ids: request.experiment_ids.0,
        job_id: caller.job_id().map(str::to_owned),
    };
    Ok(answer(tracking.create_evaluation_dataset(new).await?))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let search = EvaluationDatasetSearch {
        experiment_ids: request.experiment_ids.0,
        filter: request.filter_string,
        order_by: request.order_by.0,
        max_results: request.max_results.map(|max| max.0),
        page_token: request.page_token,
    };
    let (found, next_page_token) = tracking.search_evaluation_datasets(&search).await?;
    Ok(Json(SearchResponse {
        datasets: found.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

async fn get(
    State(tracking): State<Tracking>,
    Path(dataset_id): Path<String>,
) -> MlflowResult<DatasetResponse> {
    Ok(answer(tracking.get_evaluation_dataset(&dataset_id).await?))
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
) -> MlflowResult<Empty> {
    let deleted = tracking.delete_evaluation_dataset(&dataset_id, caller.job_id());
    deleted.await?;
    Ok(Json(Empty {}))
}

async fn set_tags(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<TagsRequest>,
) -> MlflowResult<Empty> {
    let tags = read_tags(&required(request.tags, "tags")?)?;
    let set = tracking.set_evaluation_dataset_tags(&dataset_id, &tags, caller.job_id());
    set.await?;
    Ok(Json(Empty {}))
}

async fn delete_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path((dataset_id, key)): Path<(String, String)>,
) -> MlflowResult<Empty> {
    let deleted = tracking.delete_evaluation_dataset_tag(&dataset_id, &key, caller.job_id());
    deleted.await?;
    Ok(Json(Empty {}))
}

async fn list_experiments(
    State(tracking): State<Tracking>,
    Path(dataset_id): Path<String>,
) -> MlflowResult<ExperimentsResponse> {
    let dataset = tracking.get_evaluation_dataset(&dataset_id).await?;
    Ok(Json(ExperimentsResponse {
        experiment_ids: dataset.experiment_ids,
    }))
}

async fn link(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<ExperimentsRequest>,
) -> MlflowResult<DatasetResponse> {
    let ids = request.experiment_ids.0;
    let linked = tracking.link_evaluation_dataset(&dataset_id, &ids, caller.job_id());
    Ok(answer(linked.await?))
}

async fn unlink(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<ExperimentsRequest>,
) -> MlflowResult<DatasetResponse> {
    let ids = request.experiment_ids.0;
    let unlinked = tracking.unlink_evaluation_dataset(&dataset_id, &ids, caller.job_id());
    Ok(answer(unlinked.await?))
}
