//! The tables of experiments.

use db::{Conn, Error, Row, query};

use crate::experiment::Experiment;
use crate::run::LifecycleStage;
use crate::store::Ids;

/// The columns of an experiment, in the order that [`read`] takes them.
pub(crate) const COLUMNS: &str = "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, job_id";

/// Reads the [`COLUMNS`]; tags come by [`add_tags`].
pub(crate) fn read(row: &Row) -> Experiment {
    Experiment {
        experiment_id: row.get::<i64, _>(0).to_string(),
        name: row.get(1),
        artifact_location: row.get(2),
        lifecycle_stage: LifecycleStage::read(&row.get::<String, _>(3)),
        creation_time: row.get(4),
        last_update_time: row.get(5),
        job_id: row.get(6),
        tags: Vec::new(),
    }
}

/// Adds an experiment without its tags.
pub(crate) async fn insert(conn: &mut Conn, experiment: &Experiment) -> Result<(), Error> {
    query(format!(
        "INSERT INTO experiments ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    ))
    .bind(id_of(experiment))
    .bind(&experiment.name)
    .bind(&experiment.artifact_location)
    .bind(experiment.lifecycle_stage.as_str())
    .bind(experiment.creation_time)
    .bind(experiment.last_update_time)
    .bind(&experiment.job_id)
    .execute(conn)
    .await
    .map(|_| ())
}

fn id_of(experiment: &Experiment) -> i64 {
    experiment
        .experiment_id
        .parse()
        .expect("an experiment's id is made from a number")
}

pub(crate) async fn find(conn: &mut Conn, id: i64) -> Result<Option<Experiment>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM experiments WHERE experiment_id = $1");
    let found = query(sql).bind(id).fetch_optional(conn).await?;
    with_tags(conn, found).await
}

pub(crate) async fn find_by_name(conn: &mut Conn, name: &str) -> Result<Option<Experiment>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM experiments WHERE name = $1");
    let found = query(sql).bind(name).fetch_optional(conn).await?;
    with_tags(conn, found).await
}

async fn with_tags(conn: &mut Conn, found: Option<Row>) -> Result<Option<Experiment>, Error> {
    let Some(row) = found else { return Ok(None) };
    let mut one = [read(&row)];
    add_tags(conn, &mut one).await?;
    let [experiment] = one;
    Ok(Some(experiment))
}

/// Fills in the tags of many experiments at once.
pub(crate) async fn add_tags(conn: &mut Conn, experiments: &mut [Experiment]) -> Result<(), Error> {
    let ids = Ids::of(experiments.iter().map(id_of));
    let sql = format!(
        "SELECT experiment_id, key, value FROM experiment_tags WHERE experiment_id IN ({}) ORDER BY experiment_id, key",
        ids.select(conn.backend(), 1)
    );
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    let mut tags = std::collections::HashMap::<String, Vec<(String, String)>>::new();
    for row in rows {
        let id = row.get::<i64, _>(0).to_string();
        tags.entry(id).or_default().push((row.get(1), row.get(2)));
    }
    for experiment in experiments {
        experiment.tags = tags.remove(&experiment.experiment_id).unwrap_or_default();
    }
    Ok(())
}

/// Where an experiment keeps artifacts: no row, or none when it is deleted.
pub(crate) async fn location_of_active(
    conn: &mut Conn,
    id: i64,
) -> Result<Option<Option<String>>, Error> {
    let sql = "SELECT artifact_location, lifecycle_stage FROM experiments WHERE experiment_id = $1";
    let row = query(sql).bind(id).fetch_optional(conn).await?;
    Ok(row.map(|row| (row.get::<String, _>(1) == "active").then(|| row.get(0))))
}

pub(crate) async fn rename(conn: &mut Conn, id: i64, name: &str, now: i64) -> Result<(), Error> {
    query("UPDATE experiments SET name = $2, last_update_time = $3 WHERE experiment_id = $1")
        .bind(id)
        .bind(name)
        .bind(now)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Moves an experiment to a stage, and tells whether there was one in the other stage.
pub(crate) async fn set_stage(
    conn: &mut Conn,
    id: i64,
    stage: LifecycleStage,
    now: i64,
) -> Result<bool, Error> {
    let changed = query(
        "UPDATE experiments SET lifecycle_stage = $2, last_update_time = $3
         WHERE experiment_id = $1 AND lifecycle_stage <> $2",
    )
    .bind(id)
    .bind(stage.as_str())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(changed > 0)
}

/// Notes that an experiment changed; tells whether there is an active one.
pub(crate) async fn touch_active(conn: &mut Conn, id: i64, now: i64) -> Result<bool, Error> {
    let changed = query(
        "UPDATE experiments SET last_update_time = $2
         WHERE experiment_id = $1 AND lifecycle_stage = 'active'",
    )
    .bind(id)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(changed > 0)
}

pub(crate) async fn count_active(conn: &mut Conn) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) FROM experiments WHERE lifecycle_stage = 'active'";
    Ok(query(sql).fetch_one(conn).await?.get(0))
}
