//! MLflow's routes that answer traces with their spans.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::{MlflowError, Permission, Routes};

use super::download;
use super::traces::TraceInfo;
use crate::Tracking;
use crate::error::Error;
use crate::location::Location;
use crate::span::Span;
use crate::trace::{Trace, not_found};
use crate::wire::{List, MlflowRequest, MlflowResult, required};

/// The most traces of one request: each may have thousands of spans.
const MAX_TRACES: usize = 100;

/// The file that clients put a trace's spans into.
const SPANS_FILE: &str = "traces.json";

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::ReadTracking;
    let all = format!("{prefix}/3.0/mlflow/traces");
    routes
        .get(&format!("{all}/batchGet"), ReadTracking, list)
        .get(&format!("{all}/get"), ReadTracking, get)
        .get(
            &format!("{prefix}/2.0/mlflow/get-trace-artifact"),
            ReadTracking,
            artifact,
        )
        .get(
            &format!("{prefix}/3.0/mlflow/get-trace-artifact"),
            ReadTracking,
            artifact,
        )
}

#[derive(Deserialize)]
struct ListRequest {
    #[serde(default)]
    trace_ids: List<String>,
}

#[derive(Deserialize)]
struct GetRequest {
    trace_id: Option<String>,
    request_id: Option<String>,
    path: Option<String>,
}

#[derive(Serialize)]
struct TraceBody {
    trace_info: TraceInfo,
    spans: Vec<Value>,
}

#[derive(Serialize)]
struct ListResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traces: Vec<TraceBody>,
}

#[derive(Serialize)]
struct GetResponse {
    trace: TraceBody,
}

async fn whole(tracking: &Tracking, traces: Vec<Trace>) -> Result<Vec<TraceBody>, Error> {
    let mut spans = tracking.spans_of(&traces).await?;
    let body = |trace: Trace| {
        let spans = spans.remove(&trace.trace_id).unwrap_or_default();
        TraceBody {
            trace_info: trace.into(),
            spans: spans.iter().map(Span::proto_json).collect(),
        }
    };
    Ok(traces.into_iter().map(body).collect())
}

async fn list(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ListRequest>,
) -> MlflowResult<ListResponse> {
    let ids = &request.trace_ids.0;
    if ids.len() > MAX_TRACES {
        let message = format!(
            "trace_ids holds {} IDs; ask for at most {MAX_TRACES}",
            ids.len()
        );
        return Err(Error::Invalid(message).into());
    }
    let found = tracking.list_traces(ids).await?;
    let traces = whole(&tracking, found).await?;
    Ok(Json(ListResponse { traces }))
}

async fn get(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<GetRequest>,
) -> MlflowResult<GetResponse> {
    let trace_id = required(request.trace_id, "trace_id")?;
    let trace = tracking.get_trace(&trace_id).await?;
    let mut traces = whole(&tracking, vec![trace]).await?;
    let trace = traces.pop().ok_or_else(|| not_found(&trace_id))?;
    Ok(Json(GetResponse { trace }))
}

/// The spans as one file, or an attachment of a span; what MLflow's pages show a trace with.
async fn artifact(
    State(tracking): State<Tracking>,
    headers: HeaderMap,
    MlflowRequest(request): MlflowRequest<GetRequest>,
) -> Result<Response, MlflowError> {
    let trace_id = request.request_id.or(request.trace_id);
    let trace_id = required(trace_id, "request_id")?;
    let trace = [tracking.get_trace(&trace_id).await?];
    let place = trace[0].place().unwrap_or_default();
    if let Some(path) = request.path {
        let file = Location::parse_uri(place)?
            .join("attachments")?
            .join(&path)?;
        return Ok(download(tracking.artifacts(), &file, &headers).await?);
    }
    let spans = tracking.spans_of(&trace).await?.remove(&trace_id);
    match spans {
        Some(spans) => {
            let spans: Vec<Value> = spans.iter().map(Span::mlflow_json).collect();
            let named = [(
                header::CONTENT_DISPOSITION,
                format!("attachment; filename={SPANS_FILE}"),
            )];
            Ok((named, Json(json!({"spans": spans}))).into_response())
        }
        None => {
            let file = Location::parse_uri(place)?.join(SPANS_FILE)?;
            Ok(download(tracking.artifacts(), &file, &headers).await?)
        }
    }
}
