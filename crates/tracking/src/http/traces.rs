//! MLflow's routes of traces, as clients of 3.x call them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use web::{Caller, MlflowError, Path, Permission, Routes, Timestamp};

use crate::Tracking;
use crate::error::Error;
use crate::search::traces::TraceSearch;
use crate::trace::{Trace, TraceDeletion, TraceState};
use crate::wire::{
    Choice, Empty, Int, List, MlflowRequest, MlflowResult, required, required_value,
};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let all = format!("{prefix}/3.0/mlflow/traces");
    let one = format!("{all}/{{trace_id}}");
    let tags = format!("{one}/tags");
    routes
        .post(&all, WriteTracking, start)
        .post(&format!("{all}/search"), ReadTracking, search)
        .get(&format!("{all}/batchGetInfos"), ReadTracking, list)
        .post(&format!("{all}/delete-traces"), WriteTracking, delete)
        .get(&one, ReadTracking, get)
        .patch(&tags, WriteTracking, set_tag)
        .delete(&tags, WriteTracking, delete_tag)
}

#[derive(Deserialize)]
struct StartRequest {
    trace: Option<TraceFields>,
}

#[derive(Deserialize)]
struct TraceFields {
    trace_info: Option<TraceInfoFields>,
}

#[derive(Deserialize)]
struct TraceInfoFields {
    trace_id: Option<String>,
    client_request_id: Option<String>,
    trace_location: Option<LocationFields>,
    request_preview: Option<String>,
    response_preview: Option<String>,
    request_time: Option<String>,
    execution_duration: Option<String>,
    state: Option<Choice>,
    #[serde(default)]
    trace_metadata: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct LocationFields {
    mlflow_experiment: Option<ExperimentLocation>,
}

#[derive(Serialize, Deserialize)]
struct ExperimentLocation {
    experiment_id: String,
}

#[derive(Deserialize)]
struct SearchRequest {
    #[serde(default)]
    locations: List<LocationFields>,
    filter: Option<String>,
    max_results: Option<Int>,
    #[serde(default)]
    order_by: List<String>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct ListRequest {
    #[serde(default)]
    trace_ids: List<String>,
}

#[derive(Deserialize)]
pub(super) struct DeleteRequest {
    experiment_id: Option<String>,
    max_timestamp_millis: Option<Int>,
    max_traces: Option<Int>,
    #[serde(default)]
    request_ids: List<String>,
}

#[derive(Deserialize)]
pub(super) struct TagRequest {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Serialize)]
struct TraceResponse {
    trace: TraceJson,
}

#[derive(Serialize)]
struct TraceJson {
    trace_info: TraceInfo,
}

#[derive(Serialize)]
pub(super) struct TraceInfo {
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_request_id: Option<String>,
    trace_location: LocationJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_preview: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_preview: Option<String>,
    request_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_duration: Option<String>,
    state: &'static str,
    trace_metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assessments: Vec<serde_json::Value>,
}

#[derive(Serialize)]
struct LocationJson {
    #[serde(rename = "type")]
    kind: &'static str,
    mlflow_experiment: ExperimentLocation,
}

#[derive(Serialize)]
struct SearchResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traces: Vec<TraceInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
struct ListResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace_infos: Vec<TraceInfo>,
}

#[derive(Serialize)]
pub(super) struct DeleteResponse {
    traces_deleted: u64,
}

impl From<Trace> for TraceInfo {
    fn from(trace: Trace) -> Self {
        let duration = trace.duration_ms.map(write_duration);
        Self {
            trace_id: trace.trace_id,
            client_request_id: trace.client_request_id,
            trace_location: LocationJson {
                kind: "MLFLOW_EXPERIMENT",
                mlflow_experiment: ExperimentLocation {
                    experiment_id: trace.experiment_id,
                },
            },
            request_preview: trace.request_preview,
            response_preview: trace.response_preview,
            request_time: Timestamp(trace.request_time),
            execution_duration: duration,
            state: trace.state.as_str(),
            trace_metadata: trace.metadata,
            tags: trace.tags,
            assessments: trace.assessments,
        }
    }
}

impl TraceInfoFields {
    fn read(self, job_id: Option<&str>) -> Result<Trace, Error> {
        let location = self.trace_location.and_then(|l| l.mlflow_experiment);
        let location = required_value(location, "trace.trace_info.trace_location")?;
        let time = required(self.request_time, "trace.trace_info.request_time")?;
        let duration = self.execution_duration.as_deref().map(read_duration);
        Ok(Trace {
            trace_id: self.trace_id.unwrap_or_default(),
            experiment_id: location.experiment_id,
            request_time: read_time(&time)?,
            duration_ms: duration.transpose()?,
            state: state(self.state),
            client_request_id: self.client_request_id,
            request_preview: self.request_preview,
            response_preview: self.response_preview,
            job_id: job_id.map(str::to_owned),
            metadata: self.trace_metadata,
            tags: self.tags,
            assessments: Vec::new(),
        })
    }
}

/// Reads a state, or a status of 2.x: the same words.
pub(super) fn state(choice: Option<Choice>) -> TraceState {
    match choice {
        Some(Choice::Name(name)) => TraceState::parse(&name),
        Some(Choice::Number(number)) => TraceState::from_number(number),
        None => TraceState::Unspecified,
    }
}

/// Reads a protobuf Timestamp: RFC 3339.
fn read_time(text: &str) -> Result<i64, Error> {
    let parameter = "trace.trace_info.request_time";
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| Error::field(parameter, format!("{text:?}"), error.to_string()))?;
    Ok(i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default())
}

/// Reads a protobuf Duration such as `1.5s`.
fn read_duration(text: &str) -> Result<i64, Error> {
    let seconds = text.strip_suffix('s').and_then(|s| s.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| seconds.is_finite() && seconds.abs() < 1e12);
    let Some(seconds) = seconds else {
        let parameter = "trace.trace_info.execution_duration";
        return Err(Error::field(
            parameter,
            format!("{text:?}"),
            "seconds such as \"1.5s\"",
        ));
    };
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    Ok((seconds * 1000.0).round() as i64)
}

fn write_duration(duration_ms: i64) -> String {
    let sign = if duration_ms < 0 { "-" } else { "" };
    let ms = duration_ms.unsigned_abs();
    format!("{sign}{}.{:03}s", ms / 1000, ms % 1000)
}

async fn start(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<StartRequest>,
) -> MlflowResult<TraceResponse> {
    let trace = required_value(request.trace, "trace")?;
    let info = required_value(trace.trace_info, "trace.trace_info")?;
    let trace = tracking.start_trace(info.read(caller.job_id())?).await?;
    Ok(answer(trace))
}

async fn get(
    State(tracking): State<Tracking>,
    Path(trace_id): Path<String>,
) -> MlflowResult<TraceResponse> {
    Ok(answer(tracking.get_trace(&trace_id).await?))
}

fn answer(trace: Trace) -> Json<TraceResponse> {
    let trace_info = trace.into();
    Json(TraceResponse {
        trace: TraceJson { trace_info },
    })
}

async fn search(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<SearchRequest>,
) -> MlflowResult<SearchResponse> {
    let places = request.locations.0.into_iter();
    let places = places.filter_map(|place| place.mlflow_experiment);
    let search = TraceSearch {
        experiment_ids: places.map(|place| place.experiment_id).collect(),
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

async fn list(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ListRequest>,
) -> MlflowResult<ListResponse> {
    let found = tracking.list_traces(&request.trace_ids.0).await?;
    Ok(Json(ListResponse {
        trace_infos: found.into_iter().map(TraceInfo::from).collect(),
    }))
}

pub(super) async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<DeleteRequest>,
) -> MlflowResult<DeleteResponse> {
    let deletion = TraceDeletion {
        experiment_id: required(request.experiment_id, "experiment_id")?,
        max_time: request.max_timestamp_millis.map(|time| time.0),
        max_traces: request.max_traces.map(|count| count.0),
        trace_ids: request.request_ids.0,
    };
    let traces_deleted = tracking.delete_traces(&deletion, caller.job_id()).await?;
    Ok(Json(DeleteResponse { traces_deleted }))
}

pub(super) async fn set_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(trace_id): Path<String>,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> MlflowResult<Empty> {
    let key = required(request.key, "key")?;
    let value = request.value.unwrap_or_default();
    tracking
        .set_trace_tag(&trace_id, key, value, caller.job_id())
        .await?;
    Ok(Json(Empty {}))
}

pub(super) async fn delete_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    Path(trace_id): Path<String>,
    MlflowRequest(request): MlflowRequest<TagRequest>,
) -> Result<Json<Empty>, MlflowError> {
    let key = required(request.key, "key")?;
    tracking
        .delete_trace_tag(&trace_id, &key, caller.job_id())
        .await?;
    Ok(Json(Empty {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_with_a_fraction() {
        for (text, ms) in [
            ("1.5s", 1_500),
            ("0.000000001s", 0),
            ("3s", 3_000),
            ("-0.25s", -250),
        ] {
            assert_eq!(read_duration(text).unwrap(), ms, "{text}");
        }
        for wrong in ["", "1.5", "s", "infs", "NaNs", "1e300s"] {
            assert!(read_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(write_duration(1_500), "1.500s");
        assert_eq!(write_duration(-7), "-0.007s");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(
            read_time("2025-10-23T10:00:00.1239Z").unwrap(),
            1_761_213_600_123
        );
        assert!(read_time("yesterday").is_err());
    }
}
