//! MLflow's routes of metric histories.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use web::{MlflowError, Permission, Routes};

use super::json;
use super::runs::run_id;
use crate::Tracking;
use crate::error::Error;
use crate::history::{HistoryReader, MAX_POINTS, MAX_POINTS_PER_RUN, MAX_RUNS, RunPoints};
use crate::store::metrics::Point;
use crate::wire::{Int, List, MlflowRequest, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::ReadTracking;
    let path = |name: &str| format!("{prefix}/2.0/mlflow/metrics/{name}");
    routes
        .get(&path("get-history"), ReadTracking, history)
        .get(&path("get-history-bulk"), ReadTracking, bulk)
        .get(&path("get-history-bulk-interval"), ReadTracking, interval)
}

#[derive(Deserialize)]
struct HistoryRequest {
    run_id: Option<String>,
    run_uuid: Option<String>,
    metric_key: Option<String>,
    max_results: Option<Int>,
    page_token: Option<String>,
}

#[derive(Deserialize)]
struct BulkRequest {
    #[serde(default)]
    run_id: List<String>,
    metric_key: Option<String>,
    max_results: Option<Int>,
}

#[derive(Deserialize)]
struct IntervalRequest {
    #[serde(default)]
    run_ids: List<String>,
    metric_key: Option<String>,
    start_step: Option<Int>,
    end_step: Option<Int>,
    max_results: Option<Int>,
}

async fn history(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<HistoryRequest>,
) -> Result<Response, MlflowError> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let key = required(request.metric_key, "metric_key")?;
    let limit = request.max_results.map_or(i64::MAX, |limit| limit.0);
    if limit <= 0 {
        let reason = "It must be a positive integer";
        return Err(Error::field("max_results", limit.to_string(), reason).into());
    }
    let token = request.page_token.as_deref();
    let mut history = tracking
        .metric_history(&id, key.clone(), token, limit)
        .await?;
    let key = KeyText::of(&key);
    let points = history.next().await?;
    if history.is_done() {
        let token = history.token.as_deref();
        return Ok(answer(&key, &[(None, &points)], token));
    }
    Ok(streamed(key, history, &points))
}

async fn bulk(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<BulkRequest>,
) -> Result<Response, MlflowError> {
    let run_ids = request.run_id.0;
    check_runs("GetMetricHistoryBulk", "cannot specify more than", &run_ids)?;
    let key = request.metric_key.ok_or_else(|| {
        Error::Invalid("GetMetricHistoryBulk request must specify a metric_key.".to_owned())
    })?;
    let limit = request.max_results.map_or(MAX_POINTS, |limit| limit.0);
    let histories = tracking.metric_histories(&run_ids, &key, limit).await?;
    Ok(answer_of_runs(&key, &histories))
}

async fn interval(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<IntervalRequest>,
) -> Result<Response, MlflowError> {
    let run_ids = request.run_ids.0;
    if run_ids.is_empty() {
        return Err(Error::Missing("run_ids".to_owned()).into());
    }
    check_runs(
        "GetMetricHistoryBulkInterval",
        "must specify at most",
        &run_ids,
    )?;
    let key = required(request.metric_key, "metric_key")?;
    let range = range(request.start_step, request.end_step)?;
    let max_points = request.max_results.map_or(MAX_POINTS_PER_RUN, |max| max.0);
    if !(1..=MAX_POINTS_PER_RUN).contains(&max_points) {
        return Err(Error::Invalid(format!(
            "max_results must be between 1 and {MAX_POINTS_PER_RUN}."
        ))
        .into());
    }
    let histories = tracking
        .sampled_histories(&run_ids, &key, range, max_points)
        .await?;
    Ok(answer_of_runs(&key, &histories))
}

/// `bound` is how MLflow words the limit of this request.
fn check_runs(what: &str, bound: &str, run_ids: &[String]) -> Result<(), Error> {
    if run_ids.is_empty() {
        return Err(Error::Invalid(format!(
            "{what} request must specify at least one run_id."
        )));
    }
    if run_ids.len() > MAX_RUNS {
        return Err(Error::Invalid(format!(
            "{what} request {bound} {MAX_RUNS} run_ids. Received {} run_ids.",
            run_ids.len()
        )));
    }
    Ok(())
}

fn range(start: Option<Int>, end: Option<Int>) -> Result<Option<(i64, i64)>, Error> {
    match (start, end) {
        (Some(Int(start)), Some(Int(end))) if start > end => Err(Error::Invalid(format!(
            "end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        ))),
        (Some(start), Some(end)) => Ok(Some((start.0, end.0))),
        (None, None) => Ok(None),
        _ => Err(Error::Invalid(
            "If either start step or end step are specified, both must be specified.".to_owned(),
        )),
    }
}

fn answer_of_runs(key: &str, histories: &[RunPoints]) -> Response {
    let histories: Vec<_> = histories
        .iter()
        .map(|(run_id, points)| (Some(run_id.as_str()), points.as_slice()))
        .collect();
    answer(&KeyText::of(key), &histories, None)
}

/// `{"metrics": [...], "next_page_token": ...}`, written by hand: an answer has many thousand
/// points, which all have the same key.
fn answer(key: &KeyText, histories: &[(Option<&str>, &[Point])], token: Option<&str>) -> Response {
    let count: usize = histories.iter().map(|(_, points)| points.len()).sum();
    let mut text = Vec::with_capacity(64 + count * (key.0.len() + 90));
    text.push(b'{');
    if count > 0 {
        text.extend_from_slice(b"\"metrics\":[");
        for (run_id, points) in histories {
            let run_id = run_id.map_or_else(String::new, |id| format!(",\"run_id\":\"{id}\""));
            push_points(&mut text, key, points, &run_id);
        }
        text.pop();
        text.push(b']');
    }
    push_end(&mut text, token);
    json(Body::from(text))
}

/// The same for a history that is too long to be held: it is written while it is read. A failure
/// half way ends the connection, which clients see as a torn answer.
fn streamed(key: KeyText, history: HistoryReader, first: &[Point]) -> Response {
    let mut begin = b"{\"metrics\":[".to_vec();
    push_points(&mut begin, &key, first, "");
    // Each piece ends with a comma, which waits for the piece behind it.
    begin.pop();
    let rest = stream::try_unfold(Some((key, history)), |state| async {
        let Some((key, mut history)) = state else {
            return Ok::<_, Error>(None);
        };
        let points = history.next().await?;
        let mut text = Vec::with_capacity(points.len() * (key.0.len() + 90));
        if !points.is_empty() {
            text.push(b',');
            push_points(&mut text, &key, &points, "");
            text.pop();
        }
        if !history.is_done() {
            return Ok(Some((text, Some((key, history)))));
        }
        text.push(b']');
        push_end(&mut text, history.token.as_deref());
        Ok(Some((text, None)))
    });
    let begin = stream::once(async { Ok(begin) });
    json(Body::from_stream(begin.chain(rest)))
}

fn push_end(text: &mut Vec<u8>, token: Option<&str>) {
    if let Some(token) = token {
        let comma = if text.ends_with(b"]") { "," } else { "" };
        let end = format!("{comma}\"next_page_token\":\"{token}\"");
        text.extend_from_slice(end.as_bytes());
    }
    text.push(b'}');
}

/// What every point of a metric begins with.
struct KeyText(String);

impl KeyText {
    fn of(key: &str) -> Self {
        let key = serde_json::Value::from(key);
        Self(format!("{{\"key\":{key},\"value\":"))
    }
}

/// Writes points, each with a comma behind it.
fn push_points(text: &mut Vec<u8>, key: &KeyText, points: &[Point], run_id: &str) {
    for point in points {
        text.extend_from_slice(key.0.as_bytes());
        let value = point.value();
        if value.is_nan() {
            text.extend_from_slice(b"\"NaN\"");
        } else {
            push_number(text, value);
        }
        text.extend_from_slice(b",\"timestamp\":");
        push_number(text, point.timestamp);
        text.extend_from_slice(b",\"step\":");
        push_number(text, point.step);
        text.extend_from_slice(run_id.as_bytes());
        text.extend_from_slice(b"},");
    }
}

/// Several times as quick as formatting.
fn push_number(text: &mut Vec<u8>, number: impl Serialize) {
    serde_json::to_writer(text, &number).expect("a Vec takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    fn written(value: f64) -> serde_json::Value {
        let metric = Metric {
            key: "a\"b".to_owned(),
            value,
            timestamp: 1,
            step: -2,
        };
        let point = Point {
            timestamp: 1,
            step: -2,
            bits: metric.value_bits(),
        };
        let mut text = Vec::new();
        let key = KeyText::of(&metric.key);
        push_points(&mut text, &key, &[point], ",\"run_id\":\"x\"");
        assert_eq!(text.pop(), Some(b','));
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn points_are_written_as_json_that_reads_back_the_same() {
        for value in [
            0.1,
            1.0,
            -2.5e-300,
            f64::MAX,
            f64::MIN_POSITIVE,
            1e21,
            12345678.9,
        ] {
            let json = written(value);
            assert_eq!(json["value"].as_f64(), Some(value), "{json}");
            assert_eq!(json["key"], "a\"b");
            assert_eq!(json["step"], -2);
        }
        assert_eq!(written(f64::NAN)["value"], "NaN");
    }
}
