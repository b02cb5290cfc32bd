//! Traces of another server, with their spans and assessments.

use db::{Conn, Error, Value};
use prost::Message as _;

use super::{insert_new, number, present};
use crate::import::{ImportedAssessment, ImportedSpan, Taken, ids};
use crate::span::hex;
use crate::trace::Trace;

pub(crate) async fn traces(conn: &mut Conn, traces: &[Trace]) -> Result<Taken, Error> {
    let columns = [
        "trace_id",
        "experiment_id",
        "request_time",
        "duration_ms",
        "state",
        "client_request_id",
        "request_preview",
        "response_preview",
    ];
    let experiments = ids(traces, |t| &t.experiment_id);
    let known = present(conn, "experiments", "experiment_id", experiments).await?;
    let row = |t: &Trace| {
        vec![
            Value::from(&t.trace_id),
            number(&t.experiment_id),
            t.request_time.into(),
            t.duration_ms.into(),
            t.state.as_str().into(),
            Value::from(&t.client_request_id),
            Value::from(&t.request_preview),
            Value::from(&t.response_preview),
        ]
    };
    let kept = traces.iter().filter(|t| known.contains(&t.experiment_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (traces.len() - rows.len()) as u64;
    let new = insert_new(conn, "traces", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn spans(conn: &mut Conn, spans: &[ImportedSpan]) -> Result<Taken, Error> {
    let known = present(conn, "traces", "trace_id", ids(spans, |s| &s.trace_id)).await?;
    let row = |s: &ImportedSpan| {
        vec![
            Value::from(&s.trace_id),
            hex(&s.span.span_id).into(),
            i64::try_from(s.span.start_ns).unwrap_or(i64::MAX).into(),
            s.span.encode_to_vec().into(),
            s.span.plain_name().into(),
            s.span.span_type().into(),
            s.span.status_word().into(),
            s.span.text().into(),
        ]
    };
    let kept = spans.iter().filter(|s| known.contains(&s.trace_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (spans.len() - rows.len()) as u64;
    let columns = [
        "trace_id", "span_id", "start_ns", "message", "name", "type", "status", "content",
    ];
    let new = insert_new(conn, "trace_spans", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn assessments(
    conn: &mut Conn,
    assessments: &[ImportedAssessment],
) -> Result<Taken, Error> {
    let traces = ids(assessments, |a| &a.trace_id);
    let known = present(conn, "traces", "trace_id", traces).await?;
    let row = |a: &ImportedAssessment| {
        vec![
            Value::from(&a.assessment_id),
            Value::from(&a.trace_id),
            serde_json::Value::from(a.message.clone())
                .to_string()
                .into(),
            a.created_at.into(),
        ]
    };
    let kept = assessments.iter().filter(|a| known.contains(&a.trace_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (assessments.len() - rows.len()) as u64;
    let columns = ["assessment_id", "trace_id", "message", "created_at"];
    let new = insert_new(conn, "trace_assessments", &columns, rows).await?;
    Ok(Taken { new, orphans })
}
