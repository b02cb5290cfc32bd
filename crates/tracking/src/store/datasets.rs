//! The tables of datasets, and of what runs read and made.

use std::collections::HashMap;

use db::{Conn, Error, query};

use crate::dataset::{Dataset, DatasetSummary, Direction};
use crate::store::{Ids, rows_of_values};

/// Adds a dataset unless the experiment has it, and gives its id: `new_id` or the one it had.
pub(crate) async fn upsert(
    conn: &mut Conn,
    experiment_id: i64,
    new_id: &str,
    dataset: &Dataset,
) -> Result<String, Error> {
    let added = query(
        "INSERT INTO datasets (dataset_id, experiment_id, name, digest, source_type, source, schema, profile)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (experiment_id, name, digest) DO NOTHING",
    )
    .bind(new_id)
    .bind(experiment_id)
    .bind(&dataset.name)
    .bind(&dataset.digest)
    .bind(&dataset.source_type)
    .bind(&dataset.source)
    .bind(&dataset.schema)
    .bind(&dataset.profile)
    .execute(conn)
    .await?;
    if added > 0 {
        return Ok(new_id.to_owned());
    }
    let sql =
        "SELECT dataset_id FROM datasets WHERE experiment_id = $1 AND name = $2 AND digest = $3";
    let row = query(sql)
        .bind(experiment_id)
        .bind(&dataset.name)
        .bind(&dataset.digest)
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

/// The datasets with these ids, as PostgreSQL gives them: a row for each, however long it is.
pub(super) async fn with_ids(
    conn: &mut Conn,
    ids: Vec<String>,
) -> Result<HashMap<String, Dataset>, Error> {
    let sql = "SELECT dataset_id, name, digest, source_type, source, schema, profile
         FROM datasets WHERE dataset_id = ANY($1::TEXT[])";
    let mut datasets = HashMap::new();
    let read = |row: &db::Row| {
        let dataset = Dataset {
            name: row.get(1),
            digest: row.get(2),
            source_type: row.get(3),
            source: row.get(4),
            schema: row.get(5),
            profile: row.get(6),
        };
        datasets.insert(row.get(0), dataset);
    };
    query(sql).bind(ids).for_each(conn, read).await?;
    Ok(datasets)
}

/// Notes that a run read a dataset.
pub(crate) async fn link(
    conn: &mut Conn,
    run: i64,
    dataset_id: &str,
    position: i64,
) -> Result<(), Error> {
    query("INSERT INTO run_datasets (run, dataset_id, position) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(run)
        .bind(dataset_id)
        .bind(position)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Adds tags to a run's reading of a dataset; those that are there already stay.
pub(crate) async fn set_tags(
    conn: &mut Conn,
    run: i64,
    dataset_id: &str,
    tags: &[(String, String)],
) -> Result<(), Error> {
    for chunk in tags.chunks(1_000) {
        let sql = format!(
            "INSERT INTO run_dataset_tags (run, dataset_id, key, value) VALUES {} ON CONFLICT DO NOTHING",
            rows_of_values(conn.backend(), chunk.len(), 4)
        );
        let mut insert = query(sql);
        for (key, value) in chunk {
            insert = insert.bind(run).bind(dataset_id).bind(key).bind(value);
        }
        insert.execute(conn).await?;
    }
    Ok(())
}

/// Notes that a run read or made a logged model.
pub(crate) async fn link_model(
    conn: &mut Conn,
    run: i64,
    direction: Direction,
    model_id: &str,
    step: i64,
) -> Result<(), Error> {
    query("INSERT INTO run_models (run, direction, model_id, step) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(run)
        .bind(direction.as_str())
        .bind(model_id)
        .bind(step)
        .execute(conn)
        .await
        .map(|_| ())
}

/// The datasets that runs of these experiments read, each context once.
pub(crate) async fn summaries(
    conn: &mut Conn,
    experiments: &[i64],
    limit: i64,
) -> Result<Vec<DatasetSummary>, Error> {
    let ids = Ids::of(experiments.iter().copied());
    let sql = format!(
        "SELECT DISTINCT d.experiment_id, d.name, d.digest, t.value
         FROM datasets d
         JOIN run_datasets i ON i.dataset_id = d.dataset_id
         JOIN runs r ON r.run = i.run AND r.lifecycle_stage = 'active'
         LEFT JOIN run_dataset_tags t
             ON t.run = i.run AND t.dataset_id = i.dataset_id AND t.key = 'mlflow.data.context'
         WHERE d.experiment_id IN ({})
         ORDER BY d.experiment_id, d.name, d.digest, t.value LIMIT $2",
        ids.select(conn.backend(), 1)
    );
    let rows = query(sql)
        .bind(ids.text())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let read = |row: &db::Row| DatasetSummary {
        experiment_id: row.get::<i64, _>(0).to_string(),
        name: row.get(1),
        digest: row.get(2),
        context: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}
