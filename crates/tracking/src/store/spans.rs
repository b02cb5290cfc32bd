//! The rows of spans.

use std::collections::HashMap;

use db::{Conn, Error, query};
use prost::Message as _;

use crate::span::{Span, hex};
use crate::store::Texts;

/// How many spans get their texts at once.
const TEXTS: i64 = 200;

/// Adds a span to its trace, or writes it anew.
pub(crate) async fn upsert(conn: &mut Conn, trace_id: &str, span: &Span) -> Result<(), Error> {
    query(
        "INSERT INTO trace_spans (trace_id, span_id, start_ns, message, name, type, status, content)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (trace_id, span_id) DO UPDATE SET
             start_ns = excluded.start_ns, message = excluded.message, name = excluded.name,
             type = excluded.type, status = excluded.status, content = excluded.content",
    )
    .bind(trace_id)
    .bind(hex(&span.span_id))
    .bind(i64::try_from(span.start_ns).unwrap_or(i64::MAX))
    .bind(span.encode_to_vec())
    .bind(span.plain_name())
    .bind(span.span_type())
    .bind(span.status_word())
    .bind(span.text())
    .execute(conn)
    .await
    .map(|_| ())
}

/// Whether there are spans without what searches look at.
pub(crate) async fn lack_texts(conn: &mut Conn) -> Result<bool, Error> {
    let row = query("SELECT EXISTS (SELECT 1 FROM trace_spans WHERE content IS NULL)")
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

/// Which of these traces have spans without what searches look at.
pub(crate) async fn of_those_without_texts(
    conn: &mut Conn,
    trace_ids: &[String],
) -> Result<Vec<String>, Error> {
    let ids = Texts::of(trace_ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 1);
    let sql = format!(
        "SELECT DISTINCT trace_id FROM trace_spans
         WHERE content IS NULL AND trace_id IN ({among}) ORDER BY trace_id"
    );
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Adds to some spans, or some of these traces, what searches look at; whether there may be more
/// without it.
pub(crate) async fn add_texts(
    conn: &mut Conn,
    trace_ids: Option<&[String]>,
) -> Result<bool, Error> {
    let start = "SELECT trace_id, span_id, message FROM trace_spans WHERE content IS NULL";
    let mut lacking = query(start);
    if let Some(trace_ids) = trace_ids {
        let ids = Texts::of(trace_ids.iter().map(String::as_str));
        let among = ids.select(conn.backend(), 1);
        lacking = query(format!("{start} AND trace_id IN ({among})")).bind(ids.text());
    }
    let rows = lacking
        .then(" ORDER BY trace_id, span_id LIMIT ?", TEXTS)
        .fetch_all(conn)
        .await?;
    for row in &rows {
        let span = read(row.get(2));
        query(
            "UPDATE trace_spans SET name = $3, type = $4, status = $5, content = $6
             WHERE trace_id = $1 AND span_id = $2 AND content IS NULL",
        )
        .bind(row.get::<String, _>(0))
        .bind(row.get::<String, _>(1))
        .bind(span.plain_name())
        .bind(span.span_type())
        .bind(span.status_word())
        .bind(span.text())
        .execute(conn)
        .await?;
    }
    Ok(!rows.is_empty())
}

fn read(message: Vec<u8>) -> Span {
    Span::decode(message.as_slice()).expect("the message was written as a span")
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
        found.entry(row.get(0)).or_default().push(read(row.get(1)));
    }
    Ok(found)
}
