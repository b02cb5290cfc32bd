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

/// Notes that a load has begun: it is under way for as long as its lease is renewed.
pub(crate) async fn begin_load(
    conn: &mut Conn,
    project: &str,
    view: &str,
    load: &LoadRow,
    lease_until: i64,
) -> Result<(), Error> {
    query(
        "INSERT INTO feature_loads (id, project, view, mode, snapshot_id, start_us, end_us,
            rows_read, entities_written, started_at, duration_ms, error, lease_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
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
    .bind(lease_until)
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

/// Renews the lease of a load.
pub(crate) async fn renew_load(conn: &mut Conn, id: &str, lease_until: i64) -> Result<(), Error> {
    query("UPDATE feature_loads SET lease_until = $2 WHERE id = $1 AND lease_until IS NOT NULL")
        .bind(id)
        .bind(lease_until)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes how a load ended.
pub(crate) async fn end_load(conn: &mut Conn, load: &LoadRow) -> Result<(), Error> {
    query(
        "UPDATE feature_loads SET mode = $2, snapshot_id = $3, rows_read = $4,
            entities_written = $5, duration_ms = $6, error = $7, lease_until = NULL
         WHERE id = $1",
    )
    .bind(load.id.as_str())
    .bind(load.mode.as_str())
    .bind(load.snapshot_id)
    .bind(load.rows_read)
    .bind(load.entities_written)
    .bind(load.duration_ms)
    .bind(load.error.as_deref())
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks the loads whose lease ran out before `now` as failed, and tells how many there were.
pub(crate) async fn fail_left_loads(conn: &mut Conn, now: i64, error: &str) -> Result<u64, Error> {
    query(
        "UPDATE feature_loads SET mode = 'failed', error = $2, lease_until = NULL
         WHERE lease_until < $1",
    )
    .bind(now)
    .bind(error)
    .execute(conn)
    .await
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

/// A model that asked for features of a view.
#[derive(Debug, Clone)]
pub(crate) struct ModelUseRow {
    pub(crate) model_name: String,
    pub(crate) model_version: i64,
    pub(crate) first_used_at: i64,
    pub(crate) used_at: i64,
}

/// Notes that a model asked for features of a view; again moves its last time.
pub(crate) async fn upsert_model_use(
    conn: &mut Conn,
    project: &str,
    view: &str,
    model: &(String, i64),
    now: i64,
) -> Result<(), Error> {
    query(
        "INSERT INTO feature_model_uses (project, view, model_name, model_version, first_used_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (project, view, model_name, model_version)
         DO UPDATE SET used_at = excluded.used_at",
    )
    .bind(project)
    .bind(view)
    .bind(model.0.as_str())
    .bind(model.1)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

/// The models that asked for features of a view, the latest first.
pub(crate) async fn list_model_uses(
    conn: &mut Conn,
    project: &str,
    view: &str,
    limit: i64,
) -> Result<Vec<ModelUseRow>, Error> {
    let rows = query(
        "SELECT model_name, model_version, first_used_at, used_at FROM feature_model_uses
         WHERE project = $1 AND view = $2
         ORDER BY used_at DESC, model_name, model_version DESC LIMIT $3",
    )
    .bind(project)
    .bind(view)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let rows = rows.iter().map(|row| ModelUseRow {
        model_name: row.get(0),
        model_version: row.get(1),
        first_used_at: row.get(2),
        used_at: row.get(3),
    });
    Ok(rows.collect())
}
