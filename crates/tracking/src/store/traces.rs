//! The tables of traces.

use std::collections::BTreeMap;

use db::{Conn, Error, Row, query};

use crate::store::{Texts, assessments, rows_of_values, trace_links};
use crate::trace::{Trace, TraceDeletion, TraceState};

/// The columns of a trace, in the order that [`read`] takes them.
pub(crate) const COLUMNS: &str = "t.trace_id, t.experiment_id, t.request_time, t.duration_ms, t.state, t.client_request_id, t.request_preview, t.response_preview, t.job_id";

/// The traces of one deletion that names no number.
const MAX_DELETED: i64 = 100_000;

/// Reads the [`COLUMNS`]; metadata and tags come by [`add_pairs`].
pub(crate) fn read(row: &Row) -> Trace {
    Trace {
        trace_id: row.get(0),
        experiment_id: row.get::<i64, _>(1).to_string(),
        request_time: row.get(2),
        duration_ms: row.get(3),
        state: TraceState::parse(&row.get::<String, _>(4)),
        client_request_id: row.get(5),
        request_preview: row.get(6),
        response_preview: row.get(7),
        job_id: row.get(8),
        metadata: BTreeMap::new(),
        tags: BTreeMap::new(),
        assessments: Vec::new(),
    }
}

/// Adds a trace or writes it anew; metadata and tags that it had before stay.
pub(crate) async fn upsert(conn: &mut Conn, trace: &Trace) -> Result<(), Error> {
    let experiment_id: i64 = trace
        .experiment_id
        .parse()
        .expect("an experiment's id is made from a number");
    query(
        "INSERT INTO traces (trace_id, experiment_id, request_time, duration_ms, state, client_request_id,
             request_preview, response_preview, job_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (trace_id) DO UPDATE SET
             request_time = excluded.request_time, duration_ms = excluded.duration_ms, state = excluded.state,
             client_request_id = excluded.client_request_id, request_preview = excluded.request_preview,
             response_preview = excluded.response_preview",
    )
    .bind(&trace.trace_id)
    .bind(experiment_id)
    .bind(trace.request_time)
    .bind(trace.duration_ms)
    .bind(trace.state.as_str())
    .bind(&trace.client_request_id)
    .bind(&trace.request_preview)
    .bind(&trace.response_preview)
    .bind(&trace.job_id)
    .execute(conn)
    .await?;
    set_pairs(conn, "trace_metadata", &trace.trace_id, &trace.metadata).await?;
    set_tags(conn, &trace.trace_id, &trace.tags).await
}

/// Sets tags.
pub(crate) async fn set_tags(
    conn: &mut Conn,
    trace_id: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    set_pairs(conn, "trace_tags", trace_id, tags).await
}

async fn set_pairs(
    conn: &mut Conn,
    table: &str,
    trace_id: &str,
    pairs: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let pairs: Vec<_> = pairs.iter().collect();
    for chunk in pairs.chunks(1_000) {
        let sql = format!(
            "INSERT INTO {table} (trace_id, key, value) VALUES {}
             ON CONFLICT (trace_id, key) DO UPDATE SET value = excluded.value",
            rows_of_values(conn.backend(), chunk.len(), 3)
        );
        let mut insert = query(sql);
        for (key, value) in chunk {
            insert = insert.bind(trace_id).bind(*key).bind(*value);
        }
        insert.execute(conn).await?;
    }
    Ok(())
}

pub(crate) async fn find(conn: &mut Conn, trace_id: &str) -> Result<Option<Trace>, Error> {
    Ok(list(conn, &[trace_id.to_owned()]).await?.pop())
}

/// The traces with these ids, the newest first.
pub(crate) async fn list(conn: &mut Conn, trace_ids: &[String]) -> Result<Vec<Trace>, Error> {
    let ids = Texts::of(trace_ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 1);
    let sql = format!("SELECT {COLUMNS} FROM traces t WHERE t.trace_id IN ({among})");
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    let mut traces: Vec<Trace> = rows.iter().map(read).collect();
    add_pairs(conn, &mut traces).await?;
    Ok(traces)
}

/// Fills in the metadata and tags of many traces at once.
pub(crate) async fn add_pairs(conn: &mut Conn, traces: &mut [Trace]) -> Result<(), Error> {
    if traces.is_empty() {
        return Ok(());
    }
    let ids = Texts::of(traces.iter().map(|trace| trace.trace_id.as_str()));
    let among = ids.select(conn.backend(), 1);
    let mut pairs = Vec::new();
    for table in ["trace_metadata", "trace_tags"] {
        let sql = format!("SELECT trace_id, key, value FROM {table} WHERE trace_id IN ({among})");
        let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
        let mut of_trace = std::collections::HashMap::<String, BTreeMap<String, String>>::new();
        for row in rows {
            let pairs = of_trace.entry(row.get(0)).or_default();
            pairs.insert(row.get(1), row.get(2));
        }
        pairs.push(of_trace);
    }
    let ids = traces.iter().map(|trace| trace.trace_id.as_str());
    let mut assessments = assessments::of_traces(conn, ids).await?;
    for trace in traces {
        let of_trace = assessments.remove(&trace.trace_id).unwrap_or_default();
        trace.assessments = of_trace.into_iter().map(|a| a.message.into()).collect();
        trace.metadata = pairs[0].remove(&trace.trace_id).unwrap_or_default();
        trace.tags = pairs[1].remove(&trace.trace_id).unwrap_or_default();
    }
    Ok(())
}

/// Removes a tag, and tells whether there was one.
pub(crate) async fn delete_tag(conn: &mut Conn, trace_id: &str, key: &str) -> Result<bool, Error> {
    let gone = query("DELETE FROM trace_tags WHERE trace_id = $1 AND key = $2")
        .bind(trace_id)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(gone > 0)
}

/// Deletes the oldest traces that fit, and tells how many.
pub(crate) async fn delete(
    conn: &mut Conn,
    experiment_id: i64,
    deletion: &TraceDeletion,
    job_id: Option<&str>,
) -> Result<u64, Error> {
    let ids = Texts::of(deletion.trace_ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 2);
    let chosen = if deletion.trace_ids.is_empty() {
        "$2 = '[]'".to_owned()
    } else {
        format!("trace_id IN ({among})")
    };
    let sql = format!(
        "DELETE FROM traces WHERE trace_id IN (
             SELECT trace_id FROM traces
             WHERE experiment_id = $1 AND {chosen} AND request_time <= $3
                 AND ($4 = '' OR job_id = $4)
             ORDER BY request_time, trace_id LIMIT $5) RETURNING trace_id"
    );
    let gone = query(sql)
        .bind(experiment_id)
        .bind(ids.text())
        .bind(deletion.max_time.unwrap_or(i64::MAX))
        .bind(job_id.unwrap_or_default())
        .bind(deletion.max_traces.unwrap_or(MAX_DELETED))
        .fetch_all(conn)
        .await?;
    let gone: Vec<String> = gone.iter().map(|row| row.get(0)).collect();
    trace_links::delete_of_traces(conn, &gone).await?;
    Ok(gone.len() as u64)
}
