//! Runs that requests start, those of many requests in one statement.

use std::collections::{BTreeMap, HashMap};

use db::{Conn, Error, query};

use crate::gather::Gather;
use crate::run::Run;

/// A run that is added with its tags to an active experiment, beside others in one statement.
pub(crate) struct RunWithTags {
    pub(crate) run: Run,
    pub(crate) experiment_id: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Gather for RunWithTags {
    /// Its number and where its artifacts are; nothing when there is no such experiment.
    type Outcome = Option<(i64, String)>;

    fn key(&self) -> &str {
        &self.run.experiment_id
    }

    fn rows(&self) -> usize {
        1 + self.tags.len()
    }

    async fn write(conn: &mut Conn, together: &[Self]) -> Result<Vec<Self::Outcome>, Error> {
        insert(conn, together).await
    }
}

async fn insert(
    conn: &mut Conn,
    together: &[RunWithTags],
) -> Result<Vec<Option<(i64, String)>>, Error> {
    let texts = |of: fn(&Run) -> &str| -> Vec<String> {
        let all = together.iter().map(|new| of(&new.run).to_owned());
        all.collect()
    };
    let (mut places, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (place, new) in (1_i64..).zip(together) {
        for (key, value) in &new.tags {
            places.push(place);
            keys.push(key.clone());
            values.push(value.clone());
        }
    }
    let made = query(INSERT)
        .bind(texts(|run| &run.run_id))
        .bind(
            together
                .iter()
                .map(|new| new.experiment_id)
                .collect::<Vec<i64>>(),
        )
        .bind(texts(|run| &run.name))
        .bind(texts(|run| run.status.as_str()))
        .bind(texts(|run| run.lifecycle_stage.as_str()))
        .bind(texts(|run| &run.user_id))
        .bind(
            together
                .iter()
                .map(|new| new.run.start_time)
                .collect::<Vec<i64>>(),
        )
        .bind(texts(|run| run.job_id.as_deref().unwrap_or_default()))
        .bind(places)
        .bind(keys)
        .bind(values)
        .fetch_all(conn)
        .await?;
    let made = made
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))));
    let mut made: HashMap<String, (i64, String)> = made.collect();
    let place = |new: &RunWithTags| made.remove(&new.run.run_id);
    Ok(together.iter().map(place).collect())
}

const INSERT: &str = "WITH wanted AS (
         SELECT w.*, rtrim(e.artifact_location, '/') || '/' || w.run_id || '/artifacts' AS artifact_uri
         FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::BIGINT[], $8::TEXT[])
             WITH ORDINALITY w(run_id, experiment_id, name, status, stage, user_id, start_time, job_id, place)
         JOIN experiments e ON e.experiment_id = w.experiment_id AND e.lifecycle_stage = 'active'
     ), made AS (
         INSERT INTO runs (run_id, experiment_id, name, status, lifecycle_stage, user_id, start_time, artifact_uri, job_id)
         SELECT run_id, experiment_id, name, status, stage, user_id, start_time, artifact_uri, NULLIF(job_id, '')
         FROM wanted ORDER BY place
         RETURNING run, run_id, artifact_uri
     ), tagged AS (
         INSERT INTO tags (run, key, value)
         SELECT m.run, t.key, t.value FROM UNNEST($9::BIGINT[], $10::TEXT[], $11::TEXT[]) t(place, key, value)
         JOIN wanted w ON w.place = t.place JOIN made m ON m.run_id = w.run_id
     )
     SELECT run_id, run, artifact_uri FROM made";
