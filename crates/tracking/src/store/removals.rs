//! Removing rows for good, and the list of folders whose files are still to go.

use db::{Conn, Error, Row, query};

use crate::removal::{Deleted, Kind};
use crate::store::trace_links;

/// One page of what was deleted before a moment, in the order of its ids.
pub(crate) async fn list(
    conn: &mut Conn,
    kind: Kind,
    before: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<Deleted>, Error> {
    let rows = match kind {
        Kind::Run => query(format!(
            "{RUN} AND r.run_id > $2 ORDER BY r.run_id LIMIT $3"
        ))
        .bind(before)
        .bind(after),
        Kind::LoggedModel => query(format!(
            "{MODEL} AND m.model_id > $2 ORDER BY m.model_id LIMIT $3"
        ))
        .bind(before)
        .bind(after),
        Kind::Experiment => {
            let after: i64 = after.parse().unwrap_or(0);
            query(format!(
                "{EXPERIMENT} AND e.experiment_id > $2 ORDER BY e.experiment_id LIMIT $3"
            ))
            .bind(before)
            .bind(after)
        }
    };
    let rows = rows.bind(limit).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| read(kind, row)).collect())
}

/// The same one, if it is still deleted since before that moment; nobody else changes it until
/// the transaction ends.
pub(crate) async fn find(
    conn: &mut Conn,
    kind: Kind,
    before: i64,
    id: &str,
) -> Result<Option<Deleted>, Error> {
    let lock = match conn.backend() {
        // There is one writer.
        db::Backend::Sqlite => "",
        db::Backend::Postgres => " FOR UPDATE",
    };
    let found = match kind {
        Kind::Run => query(format!("{RUN} AND r.run_id = $2{lock}"))
            .bind(before)
            .bind(id),
        Kind::LoggedModel => query(format!("{MODEL} AND m.model_id = $2{lock}"))
            .bind(before)
            .bind(id),
        Kind::Experiment => query(format!("{EXPERIMENT} AND e.experiment_id = $2{lock}"))
            .bind(before)
            .bind(id.parse().unwrap_or(0_i64)),
    };
    let row = found.fetch_optional(conn).await?;
    Ok(row.as_ref().map(|row| read(kind, row)))
}

const RUN: &str = "SELECT r.run_id, r.name, COALESCE(r.deleted_time, 0), r.artifact_uri FROM runs r
    WHERE r.lifecycle_stage = 'deleted' AND COALESCE(r.deleted_time, 0) <= $1";

/// A logged model goes by itself, or with its experiment.
const MODEL: &str = "SELECT m.model_id, m.name,
        CASE WHEN m.lifecycle_stage = 'deleted' THEN m.last_update_time ELSE e.last_update_time END,
        m.artifact_uri
    FROM logged_models m JOIN experiments e ON e.experiment_id = m.experiment_id
    WHERE ((m.lifecycle_stage = 'deleted' AND m.last_update_time <= $1)
        OR (e.lifecycle_stage = 'deleted' AND e.last_update_time <= $1))";

/// The default experiment, number 0, is always there.
const EXPERIMENT: &str =
    "SELECT CAST(e.experiment_id AS TEXT), e.name, e.last_update_time, e.artifact_location
    FROM experiments e
    WHERE e.lifecycle_stage = 'deleted' AND e.experiment_id <> 0 AND e.last_update_time <= $1";

fn read(kind: Kind, row: &Row) -> Deleted {
    Deleted {
        kind,
        id: row.get(0),
        name: row.get(1),
        deleted_at: row.get(2),
        artifact_uri: row.get(3),
    }
}

/// Removes a run with all that it logged.
pub(crate) async fn delete_run(conn: &mut Conn, run_id: &str) -> Result<(), Error> {
    trace_links::delete_of_run(conn, run_id).await?;
    let run = query("DELETE FROM runs WHERE run_id = $1 RETURNING run")
        .bind(run_id)
        .fetch_optional(conn)
        .await?;
    let Some(run) = run else { return Ok(()) };
    // After the run: no point is written for it any more. On PostgreSQL no foreign key removes them.
    query("DELETE FROM metrics WHERE run = $1")
        .bind(run.get::<i64, _>(0))
        .execute(conn)
        .await
        .map(|_| ())
}

pub(crate) async fn delete_model(conn: &mut Conn, model_id: &str) -> Result<(), Error> {
    for sql in [
        "DELETE FROM run_models WHERE model_id = $1",
        "DELETE FROM logged_models WHERE model_id = $1",
    ] {
        query(sql).bind(model_id).execute(conn).await?;
    }
    Ok(())
}

/// Whether an experiment still holds runs or logged models.
pub(crate) async fn holds_any(conn: &mut Conn, experiment: i64) -> Result<bool, Error> {
    let row = query(
        "SELECT EXISTS (SELECT 1 FROM runs WHERE experiment_id = $1)
             OR EXISTS (SELECT 1 FROM logged_models WHERE experiment_id = $1)",
    )
    .bind(experiment)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

/// Whether another experiment keeps artifacts at this place or below it.
pub(crate) async fn is_shared(
    conn: &mut Conn,
    experiment: i64,
    location: &str,
) -> Result<bool, Error> {
    let below = format!("{}/", location.trim_end_matches('/'));
    let length = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
    let row = query(
        "SELECT EXISTS (SELECT 1 FROM experiments WHERE experiment_id <> $1
             AND (artifact_location = $2 OR substr(artifact_location, 1, CAST($4 AS INTEGER)) = $3))",
    )
    .bind(experiment)
    .bind(location)
    .bind(below)
    .bind(length)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

/// Removes an experiment that holds no runs and models, with its traces and datasets; gives the
/// ids of the traces.
pub(crate) async fn delete_experiment(
    conn: &mut Conn,
    experiment: i64,
) -> Result<Vec<String>, Error> {
    let traces = query("DELETE FROM traces WHERE experiment_id = $1 RETURNING trace_id")
        .bind(experiment)
        .fetch_all(conn)
        .await?;
    let traces: Vec<String> = traces.iter().map(|row| row.get(0)).collect();
    trace_links::delete_of_traces(conn, &traces).await?;
    for sql in [
        "DELETE FROM datasets WHERE experiment_id = $1",
        "DELETE FROM experiments WHERE experiment_id = $1",
    ] {
        query(sql).bind(experiment).execute(conn).await?;
    }
    Ok(traces)
}

/// Notes that the files of a folder are to be removed.
pub(crate) async fn insert_folder(conn: &mut Conn, folder: &str, now: i64) -> Result<(), Error> {
    query("INSERT INTO removed_folders (folder, removed_at) VALUES ($1, $2) ON CONFLICT (folder) DO NOTHING")
        .bind(folder)
        .bind(now)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Folders whose files are still to be removed.
pub(crate) async fn list_folders(
    conn: &mut Conn,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, Error> {
    let rows =
        query("SELECT folder FROM removed_folders WHERE folder > $1 ORDER BY folder LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(conn)
            .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Notes that the files of a folder are gone.
pub(crate) async fn delete_folder(conn: &mut Conn, folder: &str) -> Result<(), Error> {
    let deleted = query("DELETE FROM removed_folders WHERE folder = $1").bind(folder);
    deleted.execute(conn).await.map(|_| ())
}
