//! The table of scorers, a row for each version.

use db::{Conn, Error, Row, query};

use crate::scorer::Scorer;
use crate::store::Ids;

const COLUMNS: &str =
    "s.experiment_id, s.name, s.version, s.scorer_id, s.serialized, s.created_time, s.job_id";

fn read(row: &Row) -> Scorer {
    Scorer {
        experiment_id: row.get(0),
        name: row.get(1),
        version: row.get(2),
        scorer_id: row.get(3),
        serialized: row.get(4),
        created_time: row.get(5),
        job_id: row.get(6),
    }
}

pub(crate) async fn insert(conn: &mut Conn, scorer: &Scorer) -> Result<(), Error> {
    query(
        "INSERT INTO scorers (experiment_id, name, version, scorer_id, serialized, created_time, job_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(scorer.experiment_id)
    .bind(&scorer.name)
    .bind(scorer.version)
    .bind(&scorer.scorer_id)
    .bind(&scorer.serialized)
    .bind(scorer.created_time)
    .bind(&scorer.job_id)
    .execute(conn)
    .await
    .map(|_| ())
}

/// A version, or the newest.
pub(crate) async fn find(
    conn: &mut Conn,
    experiment_id: i64,
    name: &str,
    version: Option<i64>,
) -> Result<Option<Scorer>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM scorers s WHERE s.experiment_id = $1 AND s.name = $2
         AND (CAST($3 AS BIGINT) IS NULL OR s.version = $3) ORDER BY s.version DESC LIMIT 1"
    );
    let found = query(sql).bind(experiment_id).bind(name).bind(version);
    Ok(found.fetch_optional(conn).await?.as_ref().map(read))
}

/// All versions, the oldest first.
pub(crate) async fn list_versions(
    conn: &mut Conn,
    experiment_id: i64,
    name: &str,
) -> Result<Vec<Scorer>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM scorers s WHERE s.experiment_id = $1 AND s.name = $2 ORDER BY s.version"
    );
    let found = query(sql).bind(experiment_id).bind(name);
    Ok(found.fetch_all(conn).await?.iter().map(read).collect())
}

/// The newest version of each scorer of active experiments, of these or of all.
pub(crate) async fn list_newest(
    conn: &mut Conn,
    experiments: Option<&[i64]>,
) -> Result<Vec<Scorer>, Error> {
    let ids = Ids::of(experiments.unwrap_or_default().iter().copied());
    let among = match experiments {
        Some(_) => format!("s.experiment_id IN ({})", ids.select(conn.backend(), 1)),
        None => "$1 = '[]'".to_owned(),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM scorers s
         JOIN experiments e ON e.experiment_id = s.experiment_id AND e.lifecycle_stage = 'active'
         WHERE {among} AND NOT EXISTS (SELECT 1 FROM scorers n
             WHERE n.experiment_id = s.experiment_id AND n.name = s.name AND n.version > s.version)
         ORDER BY s.experiment_id, s.name"
    );
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(read).collect())
}

pub(crate) async fn delete(conn: &mut Conn, scorer: &Scorer) -> Result<(), Error> {
    query("DELETE FROM scorers WHERE experiment_id = $1 AND name = $2 AND version = $3")
        .bind(scorer.experiment_id)
        .bind(&scorer.name)
        .bind(scorer.version)
        .execute(conn)
        .await
        .map(|_| ())
}
