//! Which job made what on an external server.

use db::{Conn, Error, Row, query};

use crate::external::{Kind, Stamp};
use crate::store::Texts;

const COLUMNS: &str = "id, job_id, artifact_uri";

fn read(row: &Row) -> Stamp {
    Stamp {
        id: row.get(0),
        job_id: row.get(1),
        artifact_uri: row.get(2),
    }
}

/// Notes who made something; what is made anew under the same id belongs to its new maker.
pub(crate) async fn put(conn: &mut Conn, kind: Kind, stamp: &Stamp, now: i64) -> Result<(), Error> {
    query(
        "INSERT INTO external_stamps (kind, id, job_id, artifact_uri, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (kind, id) DO UPDATE SET job_id = excluded.job_id,
             artifact_uri = excluded.artifact_uri, created_at = excluded.created_at",
    )
    .bind(kind.as_str())
    .bind(&stamp.id)
    .bind(&stamp.job_id)
    .bind(&stamp.artifact_uri)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn find(conn: &mut Conn, kind: Kind, id: &str) -> Result<Option<Stamp>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM external_stamps WHERE kind = $1 AND id = $2");
    let row = query(sql).bind(kind.as_str()).bind(id);
    Ok(row.fetch_optional(conn).await?.as_ref().map(read))
}

/// The stamps of those of `ids` that have one, in no order.
pub(crate) async fn list(conn: &mut Conn, kind: Kind, ids: &[String]) -> Result<Vec<Stamp>, Error> {
    let ids = Texts::of(ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 2);
    let sql = format!("SELECT {COLUMNS} FROM external_stamps WHERE kind = $1 AND id IN ({among})");
    let rows = query(sql).bind(kind.as_str()).bind(ids.text());
    Ok(rows.fetch_all(conn).await?.iter().map(read).collect())
}

/// What a job made of one kind, oldest first.
pub(crate) async fn list_of_job(
    conn: &mut Conn,
    kind: Kind,
    job_id: &str,
) -> Result<Vec<Stamp>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM external_stamps WHERE kind = $1 AND job_id = $2
         ORDER BY created_at, id"
    );
    let rows = query(sql).bind(kind.as_str()).bind(job_id);
    Ok(rows.fetch_all(conn).await?.iter().map(read).collect())
}

/// What of one kind a job made until a time, oldest first.
pub(crate) async fn ids_until(
    conn: &mut Conn,
    kind: Kind,
    job_id: &str,
    until: Option<i64>,
) -> Result<Vec<String>, Error> {
    let rows = query(
        "SELECT id FROM external_stamps WHERE kind = $1 AND job_id = $2 AND created_at <= $3
         ORDER BY created_at, id",
    )
    .bind(kind.as_str())
    .bind(job_id)
    .bind(until.unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
