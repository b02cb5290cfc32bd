//! MLflow's routes of metric histories.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use serde::Deserialize;
use web::{MlflowError, Permission, Routes};

use super::runs::run_id;
use crate::Tracking;
use crate::error::Error;
use crate::history::{MAX_POINTS, MAX_POINTS_PER_RUN, MAX_RUNS, RunPoints};
use crate::page::Page;
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
    let page = Page::new(request.page_token.as_deref(), limit)?;
    let (points, token) = tracking.metric_history(&id, &key, page).await?;
    Ok(answer(&key, &[(None, &points)], token.as_deref()))
}

async fn bulk(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<BulkRequest>,
) -> Result<Response, MlflowError> {
    let run_ids = request.run_id.0;
    check_runs("GetMetricHistoryBulk", &run_ids)?;
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
    check_runs("GetMetricHistoryBulkInterval", &run_ids)?;
    let key = required(request.metric_key, "metric_key")?;
    let range = range(request.start_step, request.end_step)?;
    let max_steps = request.max_results.map_or(MAX_POINTS_PER_RUN, |max| max.0);
    if !(1..=MAX_POINTS_PER_RUN).contains(&max_steps) {
        return Err(Error::Invalid(format!(
            "max_results must be between 1 and {MAX_POINTS_PER_RUN}."
        ))
        .into());
    }
    let max_steps = usize::try_from(max_steps).unwrap_or(usize::MAX);
    let histories = tracking
        .sampled_histories(&run_ids, &key, range, max_steps)
        .await?;
    Ok(answer_of_runs(&key, &histories))
}

fn check_runs(what: &str, run_ids: &[String]) -> Result<(), Error> {
    if run_ids.is_empty() {
        return Err(Error::Invalid(format!(
            "{what} request must specify at least one run_id."
        )));
    }
    if run_ids.len() > MAX_RUNS {
        return Err(Error::Invalid(format!(
            "{what} request must specify at most {MAX_RUNS} run_ids; it cannot specify more than {MAX_RUNS} run_ids. Received {} run_ids.",
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
    answer(key, &histories, None)
}

/// `{"metrics": [...], "next_page_token": ...}`, written by hand: an answer has many thousand
/// points, which all have the same key.
fn answer(key: &str, histories: &[(Option<&str>, &[Point])], token: Option<&str>) -> Response {
    let count: usize = histories.iter().map(|(_, points)| points.len()).sum();
    let key = serde_json::Value::from(key).to_string();
    let mut text = String::with_capacity(64 + count * (key.len() + 90));
    text.push('{');
    if count > 0 {
        text.push_str("\"metrics\":[");
        for (run_id, points) in histories {
            let run_id = run_id.map_or_else(String::new, |id| format!(",\"run_id\":\"{id}\""));
            for point in *points {
                push_point(&mut text, &key, point, &run_id);
            }
        }
        text.pop();
        text.push(']');
    }
    if let Some(token) = token {
        write!(text, ",\"next_page_token\":\"{token}\"").expect("a String takes all text");
    }
    text.push('}');
    let mut response = Response::new(Body::from(text));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn push_point(text: &mut String, key: &str, point: &Point, run_id: &str) {
    let Point {
        timestamp, step, ..
    } = point;
    let value = point.value();
    // The debug form of a float is the shortest that reads back the same, with an exponent where
    // that is shorter: JSON as it is.
    let value: &dyn std::fmt::Debug = if value.is_nan() { &"NaN" } else { &value };
    write!(
        text,
        "{{\"key\":{key},\"value\":{value:?},\"timestamp\":{timestamp},\"step\":{step}{run_id}}},"
    )
    .expect("a String takes all text");
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
        let mut text = String::new();
        push_point(&mut text, "\"a\\\"b\"", &point, ",\"run_id\":\"x\"");
        serde_json::from_str(text.trim_end_matches(',')).unwrap()
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
