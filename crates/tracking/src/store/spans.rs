//! The rows of spans.

use std::collections::HashMap;

use db::{Conn, Error, query};
use prost::Message as _;

use crate::span::{Span, hex};
use crate::store::Texts;

/// Adds a span to its trace, or writes it anew.
pub(crate) async fn upsert(conn: &mut Conn, trace_id: &str, span: &Span) -> Result<(), Error> {
    query(
        "INSERT INTO trace_spans (trace_id, span_id, start_ns, message) VALUES ($1, $2, $3, $4)
         ON CONFLICT (trace_id, span_id) DO UPDATE SET
             start_ns = excluded.start_ns, message = excluded.message",
    )
    .bind(trace_id)
    .bind(hex(&span.span_id))
    .bind(i64::try_from(span.start_ns).unwrap_or(i64::MAX))
    .bind(span.encode_to_vec())
    .execute(conn)
    .await
    .map(|_| ())
}

/// The spans of many traces, by trace, the earliest first.
pub(crate) async fn of_traces<'t>(
    conn: &mut Conn,
    trace_ids: impl IntoIterator<Item = &'t str>,
) -> Result<HashMap<String, Vec<Span>>, Error> {
    let ids = Texts::of(trace_ids);
    let among = ids.select(conn.backend(), 1);
    let sql = format!(
        "SELECT trace_id, message FROM trace_spans WHERE trace_id IN ({among})
         ORDER BY trace_id, start_ns, span_id"
    );
    let mut found = HashMap::<String, Vec<Span>>::new();
    for row in query(sql).bind(ids.text()).fetch_all(conn).await? {
        let message: Vec<u8> = row.get(1);
        let span = Span::decode(message.as_slice()).expect("the message was written as a span");
        found.entry(row.get(0)).or_default().push(span);
    }
    Ok(found)
}
