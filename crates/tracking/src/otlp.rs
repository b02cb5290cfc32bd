//! Spans that come by OTLP: they make their traces, or complete those that are there.

use std::collections::{BTreeMap, HashMap};

use crate::Tracking;
use crate::error::Error;
use crate::search::traces::RUN_KEY;
use crate::span::Span;
use crate::store::{experiments, spans as rows, traces};
use crate::trace::{LOCATION_TAG, Trace, TraceState, check_owner, check_source_run};
use crate::{experiment, key};

/// The tags and metadata of MLflow that a trace made of spans has.
const NAME_TAG: &str = "mlflow.traceName";
const SPANS_TAG: &str = "mlflow.trace.spansLocation";
const SCHEMA_KEY: &str = "mlflow.trace_schema.version";

/// The most spans of one request.
const MAX_SPANS: usize = 10_000;

/// The most characters of what a trace shows of its request and its answer.
const MAX_PREVIEW_CHARS: usize = 1_000;

fn check(spans: &[Span]) -> Result<(), Error> {
    if spans.is_empty() {
        return Err(Error::Invalid(
            "Invalid OpenTelemetry format - no spans found".to_owned(),
        ));
    }
    if spans.len() > MAX_SPANS {
        return Err(Error::Invalid(format!(
            "A request holds at most {MAX_SPANS} spans; this one holds {}: send it in parts",
            spans.len()
        )));
    }
    for span in spans {
        let whole = span.trace_id.len() == 16 && span.span_id.len() == 8;
        let parent = [0, 8].contains(&span.parent_span_id.len());
        if !whole || !parent {
            return Err(Error::Invalid(format!(
                "The span {:?} has no trace ID of 16 bytes, span ID of 8 bytes, or a parent ID of another length",
                span.name
            )));
        }
    }
    Ok(())
}

fn ms(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}

/// Adds to a trace what its spans tell of it.
fn complete(trace: &mut Trace, spans: &[&Span]) {
    let start = spans.iter().map(|span| ms(span.start_ns)).min();
    let end_before = trace
        .duration_ms
        .map(|duration| trace.request_time + duration);
    if let Some(start) = start {
        trace.request_time = match trace.request_time {
            0 => start,
            before => before.min(start),
        };
    }
    let end = spans.iter().map(|span| ms(span.end_ns)).max();
    let Some(root) = spans.iter().find(|span| span.is_root()) else {
        return;
    };
    let end = end.max(end_before).unwrap_or(trace.request_time);
    trace.duration_ms = Some(end.saturating_sub(trace.request_time).max(0));
    if matches!(
        trace.state,
        TraceState::InProgress | TraceState::Unspecified
    ) {
        trace.state = match root.is_error() {
            true => TraceState::Error,
            false => TraceState::Ok,
        };
    }
    let name = || key::cut(root.name.clone(), MAX_PREVIEW_CHARS);
    trace.tags.entry(NAME_TAG.to_owned()).or_insert_with(name);
    let preview = |key: &str| {
        let text = root.attribute(key).map(|value| match value {
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        });
        text.map(|text| key::cut(text, MAX_PREVIEW_CHARS))
    };
    let inputs = preview("mlflow.spanInputs");
    trace.request_preview = trace.request_preview.take().or(inputs);
    let outputs = preview("mlflow.spanOutputs");
    trace.response_preview = trace.response_preview.take().or(outputs);
}

impl Tracking {
    /// Stores spans of any number of traces, all or none.
    pub(crate) async fn log_spans(
        &self,
        experiment_id: &str,
        run_id: Option<&str>,
        spans: &[Span],
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        check(spans)?;
        let experiment_number = experiment::parse_id(experiment_id)?;
        let mut of_trace = BTreeMap::<String, Vec<&Span>>::new();
        for span in spans {
            of_trace
                .entry(span.mlflow_trace_id())
                .or_default()
                .push(span);
        }
        let mut tx = self.db.begin().await?;
        let location = experiments::location_of_active(&mut tx, experiment_number).await?;
        let location = location.ok_or_else(|| experiment::not_found(experiment_number))?;
        let location = location.ok_or_else(|| {
            Error::Invalid(format!(
                "The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
            ))
        })?;
        for (trace_id, spans) in of_trace {
            let mut trace = match traces::find(&mut tx, &trace_id).await? {
                Some(found) => {
                    check_owner(&found, job_id)?;
                    found
                }
                None => Trace {
                    trace_id: trace_id.clone(),
                    experiment_id: experiment_id.to_owned(),
                    state: TraceState::InProgress,
                    job_id: job_id.map(str::to_owned),
                    metadata: BTreeMap::from([(SCHEMA_KEY.to_owned(), "3".to_owned())]),
                    ..Trace::default()
                },
            };
            complete(&mut trace, &spans);
            let place = format!(
                "{}/traces/{trace_id}/artifacts",
                location.trim_end_matches('/')
            );
            trace.tags.entry(LOCATION_TAG.to_owned()).or_insert(place);
            trace
                .tags
                .insert(SPANS_TAG.to_owned(), "TRACKING_STORE".to_owned());
            if let Some(run_id) = run_id {
                trace.metadata.insert(RUN_KEY.to_owned(), run_id.to_owned());
                check_source_run(&mut tx, &trace.metadata, job_id).await?;
            }
            traces::upsert(&mut tx, &trace).await?;
            for span in spans {
                rows::upsert(&mut tx, &trace_id, span).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// The spans of these traces that came by OTLP; others' are artifacts.
    pub(crate) async fn spans_of(
        &self,
        traces: &[Trace],
    ) -> Result<HashMap<String, Vec<Span>>, Error> {
        let mut conn = self.db.acquire().await?;
        let ids = traces.iter().map(|trace| trace.trace_id.as_str());
        Ok(rows::of_traces(&mut conn, ids).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::SpanStatus;

    fn span(parent: &[u8], start_ms: u64, end_ms: u64, code: i32) -> Span {
        Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            parent_span_id: parent.to_vec(),
            name: "call".to_owned(),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
            status: Some(SpanStatus {
                code,
                message: String::new(),
            }),
            ..Span::default()
        }
    }

    #[test]
    fn a_trace_ends_when_its_root_has_come() {
        let mut trace = Trace {
            state: TraceState::InProgress,
            ..Trace::default()
        };
        let (child, root) = (span(&[9; 8], 20, 30, 1), span(&[], 10, 40, 2));
        complete(&mut trace, &[&child]);
        assert_eq!((trace.request_time, trace.duration_ms), (20, None));
        assert_eq!(trace.state, TraceState::InProgress);
        complete(&mut trace, &[&root]);
        assert_eq!((trace.request_time, trace.duration_ms), (10, Some(30)));
        assert_eq!(trace.state, TraceState::Error);
        assert_eq!(trace.tags[NAME_TAG], "call");
    }

    #[test]
    fn spans_without_whole_ids_are_refused() {
        let mut broken = span(&[], 1, 2, 0);
        broken.trace_id.pop();
        assert!(check(&[broken]).is_err());
        assert!(check(&[]).is_err());
        assert!(check(&[span(&[], 1, 2, 0)]).is_ok());
    }
}
