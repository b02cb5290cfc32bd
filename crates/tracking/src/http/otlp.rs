//! `POST /v1/traces`: OTLP over HTTP, in protobuf or JSON.

use std::io::Read as _;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use prost::Message as _;
use web::{Caller, MlflowError, Permission, Routes};

use crate::Tracking;
use crate::error::Error;
use crate::otlp_json;
use crate::span::{Export, Span};
use crate::wire::Empty;

/// The largest request after unpacking, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Names the experiment that the spans belong to, and the run.
const EXPERIMENT: &str = "x-mlflow-experiment-id";
const RUN: &str = "x-mlflow-run-id";

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// How an exporter writes its spans.
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
        match kind.split(';').next().map(str::trim) {
            Some(PROTOBUF) => Ok(Self::Protobuf),
            Some(JSON) => Ok(Self::Json),
            _ => Err(Error::Body(format!(
                "Invalid Content-Type: {kind:?}. Expected: {PROTOBUF} or {JSON}; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"
            ))),
        }
    }
}

/// The one path that OTLP exporters know.
pub(super) const PATH: &str = "/v1/traces";

/// The route of exporters.
pub(super) fn add(routes: Routes<Tracking>) -> Routes<Tracking> {
    routes.post(PATH, Permission::WriteTracking, export)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    Some(value).filter(|value| !value.is_empty())
}

/// The run that the spans say they are of.
pub(super) fn run_of(headers: &HeaderMap) -> Option<&str> {
    text(headers, RUN)
}

fn unpack(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, Error> {
    match text(headers, header::CONTENT_ENCODING.as_str()) {
        None | Some("identity") => return Ok(body.clone()),
        Some("gzip") => {}
        Some(other) => {
            return Err(Error::Body(format!(
                "the content encoding {other:?} is not known; send gzip or none"
            )));
        }
    }
    let mut whole = Vec::new();
    let mut unpacked = GzDecoder::new(body.as_ref()).take(MAX_BYTES as u64 + 1);
    unpacked
        .read_to_end(&mut whole)
        .map_err(|error| Error::Invalid(format!("the body is not gzip: {error}")))?;
    if whole.len() > MAX_BYTES {
        return Err(Error::BodyTooLarge);
    }
    Ok(whole.into())
}

/// The spans of a request.
///
/// # Errors
/// What the request must be like.
pub(super) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Span>, Error> {
    let body = unpack(headers, body)?;
    match Encoding::of(headers)? {
        Encoding::Json => otlp_json::read(&body),
        Encoding::Protobuf => {
            let export = Export::decode(body).map_err(|error| {
                Error::Invalid(format!("Invalid OpenTelemetry format: {error}"))
            })?;
            let scopes = export
                .resource_spans
                .into_iter()
                .flat_map(|r| r.scope_spans);
            Ok(scopes.flat_map(|scope| scope.spans).collect())
        }
    }
}

async fn export(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, MlflowError> {
    let experiment_id = text(&headers, EXPERIMENT).ok_or_else(|| {
        Error::Missing(format!(
            "{EXPERIMENT} (a header: set OTEL_EXPORTER_OTLP_TRACES_HEADERS={EXPERIMENT}=ID)"
        ))
    })?;
    let spans = read(&headers, &body)?;
    let run_id = run_of(&headers);
    tracking
        .log_spans(experiment_id, run_id, &spans, caller.job_id())
        .await?;
    // An empty `ExportTraceServiceResponse`: all of it was taken.
    Ok(match Encoding::of(&headers)? {
        Encoding::Protobuf => ([(header::CONTENT_TYPE, PROTOBUF)], Bytes::new()).into_response(),
        Encoding::Json => Json(Empty {}).into_response(),
    })
}
