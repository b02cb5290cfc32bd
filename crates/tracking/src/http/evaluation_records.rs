//! MLflow's routes of the records of evaluation datasets (`datasets.proto`).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use web::{Caller, Path, Permission, Routes};

use crate::Tracking;
use crate::evaluation_record::read_records;
use crate::wire::{Int, List, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let records = format!("{prefix}/3.0/mlflow/datasets/{{dataset_id}}/records");
    routes
        .post(&records, WriteTracking, upsert)
        .get(&records, ReadTracking, list)
        .delete(&records, WriteTracking, delete)
}

#[derive(Deserialize)]
struct UpsertRequest {
    /// A JSON array.
    records: Option<String>,
}

#[derive(Deserialize)]
struct ListRequest {
    max_results: Option<Int>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct DeleteRequest {
    #[serde(default)]
    dataset_record_ids: List<String>,
}

#[derive(Serialize)]
struct UpsertResponse {
    inserted_count: i64,
    updated_count: i64,
}

#[derive(Serialize)]
struct ListResponse {
    /// A JSON array.
    records: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct DeleteResponse {
    deleted_count: i64,
}

async fn upsert(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<UpsertRequest>,
) -> MlflowResult<UpsertResponse> {
    let records = read_records(&required(request.records, "records")?)?;
    let written = tracking.upsert_evaluation_records(&dataset_id, records, caller.job_id());
    let written = written.await?;
    Ok(Json(UpsertResponse {
        inserted_count: written.inserted,
        updated_count: written.updated,
    }))
}

async fn list(
    State(tracking): State<Tracking>,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<ListRequest>,
) -> MlflowResult<ListResponse> {
    let (max, token) = (request.max_results.map(|max| max.0), request.page_token);
    let page = tracking.list_evaluation_records(&dataset_id, max, token.as_deref());
    let (found, next_page_token) = page.await?;
    let records = found.into_iter().map(|record| Value::from(record.message));
    Ok(Json(ListResponse {
        records: records.collect::<Value>().to_string(),
        next_page_token,
    }))
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(dataset_id): Path<String>,
    MlflowRequest(request): MlflowRequest<DeleteRequest>,
) -> MlflowResult<DeleteResponse> {
    let ids = request.dataset_record_ids.0;
    let deleted = tracking.delete_evaluation_records(&dataset_id, &ids, caller.job_id());
    Ok(Json(DeleteResponse {
        deleted_count: deleted.await?,
    }))
}
