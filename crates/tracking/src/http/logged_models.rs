//! MLflow's routes of logged models.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize, Serializer};
use web::{Caller, MlflowError, Permission, Routes};

use super::artifacts::{ListResponse, list_below};
use super::download::download;
use crate::Tracking;
use crate::error::Error;
use crate::location::Location;
use crate::logged_model::{
    LoggedModel, LoggedModelMetric, LoggedModelStatus, NewLoggedModel, OrderBy, SearchLoggedModels,
};
use crate::wire::{
    Choice, Empty, Flag, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required,
    required_value,
};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let all = format!("{prefix}/2.0/mlflow/logged-models");
    let one = format!("{all}/{{model_id}}");
    routes
        .post(&all, WriteTracking, create)
        .post(&format!("{all}/search"), ReadTracking, search)
        .get(&one, ReadTracking, get)
        .patch(&one, WriteTracking, finalize)
        .delete(&one, WriteTracking, delete)
        .post(&format!("{one}/params"), WriteTracking, log_params)
        .patch(&format!("{one}/tags"), WriteTracking, set_tags)
        .delete(&format!("{one}/tags/{{key}}"), WriteTracking, delete_tag)
        .get(
            &format!("{one}/artifacts/directories"),
            ReadTracking,
            list_artifacts,
        )
        .get(
            &format!("{one}/artifacts/files"),
            ReadTracking,
            get_artifact,
        )
}

#[derive(Deserialize)]
struct CreateRequest {
    experiment_id: Option<String>,
    name: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    #[serde(default)]
    params: List<KeyValue>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct FinalizeRequest {
    status: Option<Choice>,
}

#[derive(Deserialize)]
struct ParamsRequest {
    #[serde(default)]
    params: List<KeyValue>,
}

#[derive(Deserialize)]
struct TagsRequest {
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    experiment_ids: List<String>,
    filter: Option<String>,
    #[serde(default)]
    datasets: List<DatasetField>,
    max_results: Option<Int>,
    #[serde(default)]
    order_by: List<OrderByField>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct DatasetField {
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Deserialize)]
struct OrderByField {
    field_name: Option<String>,
    ascending: Option<Flag>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Deserialize)]
struct ArtifactRequest {
    artifact_directory_path: Option<String>,
    artifact_file_path: Option<String>,
}

#[derive(Serialize)]
struct ModelResponse {
    model: LoggedModelBody,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<LoggedModelBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct LoggedModelBody {
    info: Info,
    data: Data,
}

#[derive(Serialize)]
struct Info {
    model_id: String,
    experiment_id: String,
    name: String,
    creation_timestamp_ms: i64,
    last_updated_timestamp_ms: i64,
    artifact_uri: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
}

#[derive(Serialize)]
struct Data {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
struct Metric {
    key: String,
    #[serde(serialize_with = "number")]
    value: f64,
    timestamp: i64,
    step: i64,
    model_id: String,
    run_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dataset_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dataset_digest: String,
}

/// JSON has no NaN: protobuf writes its name.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_f64(*value)
    }
}

impl From<LoggedModel> for LoggedModelBody {
    fn from(model: LoggedModel) -> Self {
        let fields = |pairs: std::collections::BTreeMap<String, String>| {
            let field = |(key, value)| KeyValue {
                key: Some(key),
                value: Some(value),
            };
            pairs.into_iter().map(field).collect::<Vec<_>>()
        };
        let metric = |metric: LoggedModelMetric| Metric {
            key: metric.key,
            value: metric.value,
            timestamp: metric.timestamp,
            step: metric.step,
            model_id: model.model_id.clone(),
            run_id: metric.run_id,
            dataset_name: metric.dataset_name,
            dataset_digest: metric.dataset_digest,
        };
        Self {
            data: Data {
                params: fields(model.params),
                metrics: model.metrics.into_iter().map(metric).collect(),
            },
            info: Info {
                model_id: model.model_id,
                experiment_id: model.experiment_id,
                name: model.name,
                creation_timestamp_ms: model.creation_time,
                last_updated_timestamp_ms: model.last_update_time,
                artifact_uri: model.artifact_uri,
                status: model.status.as_str(),
                model_type: model.model_type,
                source_run_id: model.source_run_id,
                status_message: model.status_message,
                tags: fields(model.tags),
            },
        }
    }
}

fn answer(model: LoggedModel) -> Json<ModelResponse> {
    Json(ModelResponse {
        model: model.into(),
    })
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<ModelResponse> {
    let new = NewLoggedModel {
        experiment_id: required(request.experiment_id, "experiment_id")?,
        name: request.name.filter(|name| !name.is_empty()),
        model_type: request.model_type,
        source_run_id: request.source_run_id,
        params: pairs(request.params, "params")?,
        tags: pairs(request.tags, "tags")?,
    };
    Ok(answer(tracking.create_logged_model(new, &caller).await?))
}

async fn get(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
) -> MlflowResult<ModelResponse> {
    Ok(answer(tracking.get_logged_model(&model_id).await?))
}

async fn finalize(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<FinalizeRequest>,
) -> MlflowResult<ModelResponse> {
    let choice = required_value(request.status, "status")?;
    let status = match &choice {
        Choice::Name(name) => LoggedModelStatus::parse(name),
        Choice::Number(number) => LoggedModelStatus::from_number(*number),
    };
    let status = status.ok_or_else(|| {
        let reason = "it must be LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED";
        Error::field("status", format!("{choice:?}"), reason)
    })?;
    let model = tracking.finalize_logged_model(&model_id, status, &caller);
    Ok(answer(model.await?))
}

async fn delete(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    Caller(caller): Caller,
) -> MlflowResult<Empty> {
    tracking.delete_logged_model(&model_id, &caller).await?;
    Ok(Json(Empty {}))
}

async fn log_params(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<ParamsRequest>,
) -> MlflowResult<Empty> {
    let params = pairs(request.params, "params")?;
    let logged = tracking.log_logged_model_params(&model_id, &params, &caller);
    logged.await?;
    Ok(Json(Empty {}))
}

async fn set_tags(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<TagsRequest>,
) -> MlflowResult<ModelResponse> {
    let tags = pairs(request.tags, "tags")?;
    let model = tracking.set_logged_model_tags(&model_id, &tags, &caller);
    Ok(answer(model.await?))
}

async fn delete_tag(
    State(tracking): State<Tracking>,
    Path((model_id, key)): Path<(String, String)>,
    Caller(caller): Caller,
) -> MlflowResult<Empty> {
    let deleted = tracking.delete_logged_model_tag(&model_id, &key, &caller);
    deleted.await?;
    Ok(Json(Empty {}))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let dataset = |(index, field): (usize, DatasetField)| {
        let name = required(
            field.dataset_name,
            &format!("datasets[{index}].dataset_name"),
        )?;
        Ok::<_, Error>((name, field.dataset_digest))
    };
    let order = |field: OrderByField| OrderBy {
        field_name: field.field_name.unwrap_or_default(),
        ascending: field.ascending.is_none_or(|flag| flag.0),
        dataset_name: field.dataset_name,
        dataset_digest: field.dataset_digest,
    };
    let datasets = request.datasets.0.into_iter().enumerate().map(dataset);
    let wanted = SearchLoggedModels {
        experiment_ids: request.experiment_ids.0,
        filter: request.filter.unwrap_or_default(),
        datasets: datasets.collect::<Result<_, _>>()?,
        order_by: request.order_by.0.into_iter().map(order).collect(),
        max_results: request.max_results.map(|n| n.0),
        page_token: request.page_token,
    };
    let (models, next_page_token) = tracking.search_logged_models(&wanted).await?;
    Ok(Json(SearchResponse {
        models: models.into_iter().map(Into::into).collect(),
        next_page_token,
    }))
}

async fn list_artifacts(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    MlflowRequest(request): MlflowRequest<ArtifactRequest>,
) -> MlflowResult<ListResponse> {
    let model = tracking.get_logged_model(&model_id).await?;
    let path = request.artifact_directory_path.unwrap_or_default();
    let listed = list_below(&tracking, &model.artifact_uri, &path);
    Ok(Json(listed.await?))
}

async fn get_artifact(
    State(tracking): State<Tracking>,
    Path(model_id): Path<String>,
    headers: HeaderMap,
    MlflowRequest(request): MlflowRequest<ArtifactRequest>,
) -> Result<Response, MlflowError> {
    let path = required(request.artifact_file_path, "artifact_file_path")?;
    let model = tracking.get_logged_model(&model_id).await?;
    let file = Location::parse_uri(&model.artifact_uri)?.join(&path)?;
    Ok(download(tracking.artifacts(), &file, &headers).await?)
}
