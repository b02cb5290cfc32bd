//! The rows of links of traces: to the runs that show them, and the prompts that they used.

use db::{Conn, Error, query};

use crate::store::Texts;
use crate::trace_link::LinkKind;

/// Links traces, those too that are linked already.
pub(crate) async fn insert(
    conn: &mut Conn,
    kind: LinkKind,
    target: &str,
    trace_ids: &[String],
) -> Result<(), Error> {
    for trace_id in trace_ids {
        query(
            "INSERT INTO trace_links (kind, target, trace_id) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(kind.as_str())
        .bind(target)
        .bind(trace_id)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Forgets the links of traces that are gone.
pub(crate) async fn delete_of_traces(conn: &mut Conn, trace_ids: &[String]) -> Result<(), Error> {
    let ids = Texts::of(trace_ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 1);
    let sql = format!("DELETE FROM trace_links WHERE trace_id IN ({among})");
    query(sql).bind(ids.text()).execute(conn).await.map(|_| ())
}

/// Forgets the links to a run that is gone.
pub(crate) async fn delete_of_run(conn: &mut Conn, run_id: &str) -> Result<(), Error> {
    query("DELETE FROM trace_links WHERE kind = $1 AND target = $2")
        .bind(LinkKind::Run.as_str())
        .bind(run_id)
        .execute(conn)
        .await
        .map(|_| ())
}
