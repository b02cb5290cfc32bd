//! Experiments of another server.

use db::{Conn, Error, Value, query};

use super::insert_new;
use crate::experiment::{DEFAULT_NAME, Experiment};
use crate::store::experiments;

/// The experiments with this id or this name.
pub(crate) async fn experiments_like(
    conn: &mut Conn,
    id: i64,
    name: &str,
) -> Result<Vec<Experiment>, Error> {
    let columns = experiments::COLUMNS;
    let sql = format!("SELECT {columns} FROM experiments WHERE experiment_id = $1 OR name = $2");
    let rows = query(sql).bind(id).bind(name).fetch_all(conn).await?;
    Ok(rows.iter().map(experiments::read).collect())
}

/// Whether this is the experiment that every server makes for itself, and nothing is in it.
pub(crate) async fn is_unused_default(conn: &mut Conn, found: &Experiment) -> Result<bool, Error> {
    if found.experiment_id != "0" || found.name != DEFAULT_NAME {
        return Ok(false);
    }
    let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM runs WHERE experiment_id = 0 LIMIT 1) one";
    Ok(query(sql).fetch_one(conn).await?.get::<i64, _>(0) == 0)
}

/// Adds an experiment, or writes over the unused experiment 0.
pub(crate) async fn experiment(
    conn: &mut Conn,
    id: i64,
    experiment: &Experiment,
) -> Result<u64, Error> {
    if let Some(found) = experiments::find(conn, id).await?
        && found.creation_time != experiment.creation_time
        && is_unused_default(conn, &found).await?
    {
        return query(
            "UPDATE experiments SET name = $2, artifact_location = $3, lifecycle_stage = $4,
                 creation_time = $5, last_update_time = $6 WHERE experiment_id = $1",
        )
        .bind(id)
        .bind(&experiment.name)
        .bind(&experiment.artifact_location)
        .bind(experiment.lifecycle_stage.as_str())
        .bind(experiment.creation_time)
        .bind(experiment.last_update_time)
        .execute(conn)
        .await;
    }
    let columns = [
        "experiment_id",
        "name",
        "artifact_location",
        "lifecycle_stage",
        "creation_time",
        "last_update_time",
    ];
    let row = vec![
        id.into(),
        Value::from(&experiment.name),
        Value::from(&experiment.artifact_location),
        experiment.lifecycle_stage.as_str().into(),
        experiment.creation_time.into(),
        experiment.last_update_time.into(),
    ];
    insert_new(conn, "experiments", &columns, vec![row]).await
}
