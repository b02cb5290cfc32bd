//! What happened to views: loads into the online store, and reads by jobs.

use db::{Conn, Error, query};

/// A load of a view into the online store.
#[derive(Debug, Clone)]
pub(crate) struct LoadRow {
    pub(crate) id: String,
    pub(crate) mode: String,
    pub(crate) snapshot_id: Option<i64>,
    pub(crate) start_us: Option<i64>,
    pub(crate) end_us: i64,
    pub(crate) rows_read: i64,
    pub(crate) entities_written: i64,
    pub(crate) started_at: i64,
    pub(crate) duration_ms: i64,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// How many loads of a view are kept.
const KEPT: i64 = 1_000;

pub(crate) async fn insert_load(
    conn: &mut Conn,
    project: &str,
    view: &str,
    load: &LoadRow,
) -> Result<(), Error> {
    query(
        "INSERT INTO feature_loads (id, project, view, mode, snapshot_id, start_us, end_us,
            rows_read, entities_written, started_at, duration_ms, error)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(load.id.as_str())
    .bind(project)
    .bind(view)
    .bind(load.mode.as_str())
    .bind(load.snapshot_id)
    .bind(load.start_us)
    .bind(load.end_us)
    .bind(load.rows_read)
    .bind(load.entities_written)
    .bind(load.started_at)
    .bind(load.duration_ms)
    .bind(load.error.as_deref())
    .execute(conn)
    .await?;
    query(
        "DELETE FROM feature_loads WHERE project = $1 AND view = $2 AND id < (
            SELECT MIN(id) FROM (
                SELECT id FROM feature_loads WHERE project = $1 AND view = $2
                ORDER BY id DESC LIMIT $3) AS newest)",
    )
    .bind(project)
    .bind(view)
    .bind(KEPT)
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest loads of a view, the newest first.
pub(crate) async fn list_loads(
    conn: &mut Conn,
    project: &str,
    view: &str,
    limit: i64,
) -> Result<Vec<LoadRow>, Error> {
    let rows = query(
        "SELECT id, mode, snapshot_id, start_us, end_us, rows_read, entities_written, started_at,
            duration_ms, error
         FROM feature_loads WHERE project = $1 AND view = $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(project)
    .bind(view)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| LoadRow {
        id: row.get(0),
        mode: row.get(1),
        snapshot_id: row.get(2),
        start_us: row.get(3),
        end_us: row.get(4),
        rows_read: row.get(5),
        entities_written: row.get(6),
        started_at: row.get(7),
        duration_ms: row.get(8),
        error: row.get(9),
    });
    Ok(rows.collect())
}

/// A job that read a view.
#[derive(Debug, Clone)]
pub(crate) struct ReadRow {
    pub(crate) job_id: String,
    pub(crate) snapshot_id: Option<i64>,
    pub(crate) read_at: i64,
}

/// Notes that a job read a view; the same read again moves its time.
pub(crate) async fn upsert_read(
    conn: &mut Conn,
    project: &str,
    view: &str,
    read: &ReadRow,
) -> Result<(), Error> {
    query(
        "INSERT INTO feature_reads (project, view, job_id, snapshot_id, read_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (project, view, job_id, snapshot_id)
         DO UPDATE SET read_at = excluded.read_at",
    )
    .bind(project)
    .bind(view)
    .bind(read.job_id.as_str())
    // A key cannot be null; no snapshot has this number.
    .bind(read.snapshot_id.unwrap_or(-1))
    .bind(read.read_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The jobs that read a view, the latest first.
pub(crate) async fn list_reads(
    conn: &mut Conn,
    project: &str,
    view: &str,
    limit: i64,
) -> Result<Vec<ReadRow>, Error> {
    let rows = query(
        "SELECT job_id, snapshot_id, read_at FROM feature_reads
         WHERE project = $1 AND view = $2 ORDER BY read_at DESC, job_id LIMIT $3",
    )
    .bind(project)
    .bind(view)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| ReadRow {
        job_id: row.get(0),
        snapshot_id: Some(row.get(1)).filter(|id| *id != -1),
        read_at: row.get(2),
    });
    Ok(rows.collect())
}
