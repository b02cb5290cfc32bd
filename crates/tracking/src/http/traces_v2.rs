//! MLflow's routes of traces, as clients of 2.x call them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Path, Permission, Routes};

use super::traces::{delete, delete_tag, set_tag, state};
use crate::Tracking;
use crate::search::traces::TraceSearch;
use crate::trace::{Trace, TraceEnd, TraceState};
use crate::wire::{
    Choice, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required, required_value,
};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let all = format!("{prefix}/2.0/mlflow/traces");
    let one = format!("{all}/{{trace_id}}");
    let tags = format!("{one}/tags");
    routes
        .post(&all, WriteTracking, start)
        .get(&all, ReadTracking, search)
        .post(&format!("{all}/delete-traces"), WriteTracking, delete)
        .patch(&one, WriteTracking, end)
        .get(&format!("{one}/info"), ReadTracking, get)
        .patch(&tags, WriteTracking, set_tag)
        .delete(&tags, WriteTracking, delete_tag)
}

#[derive(Deserialize)]
struct StartRequest {
    experiment_id: Option<String>,
    timestamp_ms: Option<Int>,
    #[serde(default)]
    request_metadata: List<KeyValue>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct EndRequest {
    timestamp_ms: Option<Int>,
    status: Option<Choice>,
    #[serde(default)]
    request_metadata: List<KeyValue>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    experiment_ids: List<String>,
    filter: Option<String>,
    max_results: Option<Int>,
    #[serde(default)]
    order_by: List<String>,
    page_token: Option<String>,
}

#[derive(Serialize)]
struct TraceResponse {
    trace_info: TraceInfo,
}

#[derive(Serialize)]
struct TraceInfo {
    request_id: String,
    experiment_id: String,
    timestamp_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_time_ms: Option<i64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_metadata: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traces: Vec<TraceInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl From<Trace> for TraceInfo {
    fn from(trace: Trace) -> Self {
        Self {
            request_id: trace.trace_id,
            experiment_id: trace.experiment_id,
            timestamp_ms: trace.request_time,
            execution_time_ms: trace.duration_ms,
            // 2.x has another word for no state.
            status: match trace.state {
                TraceState::Unspecified => "TRACE_STATUS_UNSPECIFIED",
                state => state.as_str(),
            },
            request_metadata: trace.metadata.into_iter().map(KeyValue::from).collect(),
            tags: trace.tags.into_iter().map(KeyValue::from).collect(),
        }
    }
}

async fn start(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<StartRequest>,
) -> MlflowResult<TraceResponse> {
    let trace = Trace {
        experiment_id: required(request.experiment_id, "experiment_id")?,
        request_time: required_value(request.timestamp_ms, "timestamp_ms")?.0,
        state: TraceState::InProgress,
        job_id: caller.job_id().map(str::to_owned),
        metadata: pairs(request.request_metadata, "request_metadata")?
            .into_iter()
            .collect(),
        tags: pairs(request.tags, "tags")?.into_iter().collect(),
        ..Trace::default()
    };
    let trace_info = tracking.start_trace(trace).await?.into();
    Ok(Json(TraceResponse { trace_info }))
}

async fn end(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(trace_id): Path<String>,
    MlflowRequest(request): MlflowRequest<EndRequest>,
) -> MlflowResult<TraceResponse> {
    let end = TraceEnd {
        end_time: required_value(request.timestamp_ms, "timestamp_ms")?.0,
        state: state(request.status),
        metadata: pairs(request.request_metadata, "request_metadata")?,
        tags: pairs(request.tags, "tags")?,
    };
    let trace = tracking.end_trace(&trace_id, end, caller.job_id()).await?;
    let trace_info = trace.into();
    Ok(Json(TraceResponse { trace_info }))
}

async fn get(
    State(tracking): State<Tracking>,
    Path(trace_id): Path<String>,
) -> MlflowResult<TraceResponse> {
    let trace_info = tracking.get_trace(&trace_id).await?.into();
    Ok(Json(TraceResponse { trace_info }))
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let search = TraceSearch {
        experiment_ids: request.experiment_ids.0,
        filter: request.filter.unwrap_or_default(),
        order_by: request.order_by.0,
        page_token: request.page_token,
        max_results: request.max_results.map(|value| value.0),
    };
    let (found, next_page_token) = tracking.search_traces(&search).await?;
    Ok(Json(SearchResponse {
        traces: found.into_iter().map(TraceInfo::from).collect(),
        next_page_token,
    }))
}
