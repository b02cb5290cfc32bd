//! The tables of experiments.

use db::{Conn, Error, Row, query};

use crate::experiment::Experiment;
use crate::run::LifecycleStage;
use crate::store::{Ids, rows_of_values};

const COLUMNS: &str = "experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, job_id";

fn read(row: &Row) -> Experiment {
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

/// Sets tags; the last value of a key counts.
pub(crate) async fn set_tags(
    conn: &mut Conn,
    id: i64,
    tags: &[(String, String)],
) -> Result<(), Error> {
    for chunk in tags.chunks(1_000) {
        let chunk: std::collections::BTreeMap<_, _> = chunk.iter().map(|(k, v)| (k, v)).collect();
        let sql = format!(
            "INSERT INTO experiment_tags (experiment_id, key, value) VALUES {}
             ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value",
            rows_of_values(chunk.len(), 3)
        );
        let mut insert = query(sql);
        for (key, value) in chunk {
            insert = insert.bind(id).bind(key).bind(value);
        }
        insert.execute(conn).await?;
    }
    Ok(())
}

pub(crate) async fn count_active(conn: &mut Conn) -> Result<i64, Error> {
    let sql = "SELECT COUNT(*) FROM experiments WHERE lifecycle_stage = 'active'";
    Ok(query(sql).fetch_one(conn).await?.get(0))
}
