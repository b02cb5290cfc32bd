//! The tables of evaluation datasets, their tags, and the experiments that use them.

use std::collections::{BTreeMap, HashMap};

use db::{Conn, Error, Row, query};

use crate::evaluation_dataset::EvaluationDataset;
use crate::search::evaluation_datasets::{Column, Condition, Plan};
use crate::store::statement::Statement;
use crate::store::{Ids, Texts};

const COLUMNS: &str = "d.dataset_id, d.name, d.digest, d.schema, d.profile, d.created_time, d.last_update_time, d.created_by, d.last_updated_by, d.job_id";

fn read(row: &Row) -> EvaluationDataset {
    EvaluationDataset {
        dataset_id: row.get(0),
        name: row.get(1),
        digest: row.get(2),
        schema: row.get(3),
        profile: row.get(4),
        created_time: row.get(5),
        last_update_time: row.get(6),
        created_by: row.get(7),
        last_updated_by: row.get(8),
        job_id: row.get(9),
        tags: BTreeMap::new(),
        experiment_ids: Vec::new(),
    }
}

/// Adds a dataset without its tags and experiments.
pub(crate) async fn insert(conn: &mut Conn, dataset: &EvaluationDataset) -> Result<(), Error> {
    query(
        "INSERT INTO evaluation_datasets (dataset_id, name, digest, schema, profile, created_time, last_update_time, created_by, last_updated_by, job_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&dataset.dataset_id)
    .bind(&dataset.name)
    .bind(&dataset.digest)
    .bind(&dataset.schema)
    .bind(&dataset.profile)
    .bind(dataset.created_time)
    .bind(dataset.last_update_time)
    .bind(&dataset.created_by)
    .bind(&dataset.last_updated_by)
    .bind(&dataset.job_id)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Writes what a change of the records changes.
pub(crate) async fn update(conn: &mut Conn, dataset: &EvaluationDataset) -> Result<(), Error> {
    query(
        "UPDATE evaluation_datasets SET digest = $2, schema = $3, profile = $4, last_updated_by = $5
         WHERE dataset_id = $1",
    )
    .bind(&dataset.dataset_id)
    .bind(&dataset.digest)
    .bind(&dataset.schema)
    .bind(&dataset.profile)
    .bind(&dataset.last_updated_by)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Notes when a dataset changed, and keeps other changes of it waiting.
pub(crate) async fn touch(conn: &mut Conn, dataset_id: &str, now: i64) -> Result<(), Error> {
    query("UPDATE evaluation_datasets SET last_update_time = $2 WHERE dataset_id = $1")
        .bind(dataset_id)
        .bind(now)
        .execute(conn)
        .await
        .map(|_| ())
}

pub(crate) async fn find(
    conn: &mut Conn,
    dataset_id: &str,
) -> Result<Option<EvaluationDataset>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM evaluation_datasets d WHERE d.dataset_id = $1");
    let found = query(sql).bind(dataset_id).fetch_optional(conn).await?;
    let mut found: Vec<EvaluationDataset> = found.iter().map(read).collect();
    add_parts(conn, &mut found).await?;
    Ok(found.pop())
}

/// The datasets of a page, and one more if there is one; their parts come by [`add_parts`].
pub(crate) async fn search(conn: &mut Conn, plan: &Plan) -> Result<Vec<EvaluationDataset>, Error> {
    let start = format!("SELECT {COLUMNS} FROM evaluation_datasets d WHERE 1 = 1");
    let mut sql = Statement::new(conn.backend(), &start);
    if let Some(experiments) = &plan.experiments {
        let ids = Ids::of(experiments.iter().copied());
        sql.bind(ids.text());
        let among = ids.select(sql.backend(), 1);
        sql.push(&format!(
            " AND EXISTS (SELECT 1 FROM evaluation_dataset_experiments e
                 WHERE e.dataset_id = d.dataset_id AND e.experiment_id IN ({among}))"
        ));
    }
    for condition in &plan.conditions {
        sql.push(" AND ");
        match condition {
            Condition::Text(column, is) => {
                sql.push_text(column_name(*column), is.operator, &is.value);
            }
            Condition::Time(column, operator, value) => {
                sql.push_number(column_name(*column), *operator, *value);
            }
            Condition::Tag(key, is) => {
                let key = sql.bind(key);
                sql.push(&format!(
                    "EXISTS (SELECT 1 FROM evaluation_dataset_tags t WHERE t.dataset_id = d.dataset_id AND t.key = {key} AND "
                ));
                sql.push_text("t.value", is.operator, &is.value);
                sql.push(")");
            }
        }
    }
    sql.push(" ORDER BY ");
    for (column, ascending) in &plan.order {
        let direction = if *ascending { "ASC" } else { "DESC" };
        sql.push(&format!("{} {direction}, ", column_name(*column)));
    }
    let (limit, offset) = (sql.bind(plan.page.lookahead()), sql.bind(plan.page.offset));
    sql.push(&format!("d.dataset_id DESC LIMIT {limit} OFFSET {offset}"));
    Ok(sql.fetch_all(conn).await?.iter().map(read).collect())
}

fn column_name(column: Column) -> &'static str {
    match column {
        Column::Name => "d.name",
        Column::CreatedBy => "d.created_by",
        Column::LastUpdatedBy => "d.last_updated_by",
        Column::Created => "d.created_time",
        Column::LastUpdate => "d.last_update_time",
    }
}

/// Adds the tags and experiments of datasets.
pub(crate) async fn add_parts(
    conn: &mut Conn,
    datasets: &mut [EvaluationDataset],
) -> Result<(), Error> {
    if datasets.is_empty() {
        return Ok(());
    }
    let ids = Texts::of(datasets.iter().map(|dataset| dataset.dataset_id.as_str()));
    let among = ids.select(conn.backend(), 1);
    let places = datasets.iter().enumerate();
    let places: HashMap<String, usize> = places
        .map(|(place, dataset)| (dataset.dataset_id.clone(), place))
        .collect();
    let sql = format!(
        "SELECT dataset_id, key, value FROM evaluation_dataset_tags WHERE dataset_id IN ({among})"
    );
    for row in query(sql).bind(ids.text()).fetch_all(conn).await? {
        let dataset = &mut datasets[places[&row.get::<String, _>(0)]];
        dataset.tags.insert(row.get(1), row.get(2));
    }
    let sql = format!(
        "SELECT dataset_id, experiment_id FROM evaluation_dataset_experiments WHERE dataset_id IN ({among})
         ORDER BY dataset_id, experiment_id"
    );
    for row in query(sql).bind(ids.text()).fetch_all(conn).await? {
        let dataset = &mut datasets[places[&row.get::<String, _>(0)]];
        dataset
            .experiment_ids
            .push(row.get::<i64, _>(1).to_string());
    }
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, dataset_id: &str) -> Result<(), Error> {
    let deleted = query("DELETE FROM evaluation_datasets WHERE dataset_id = $1").bind(dataset_id);
    deleted.execute(conn).await.map(|_| ())
}

pub(crate) async fn set_tags(
    conn: &mut Conn,
    dataset_id: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    for (key, value) in tags {
        query(
            "INSERT INTO evaluation_dataset_tags (dataset_id, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (dataset_id, key) DO UPDATE SET value = excluded.value",
        )
        .bind(dataset_id)
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?;
    }
    Ok(())
}

pub(crate) async fn delete_tag(conn: &mut Conn, dataset_id: &str, key: &str) -> Result<(), Error> {
    let deleted = query("DELETE FROM evaluation_dataset_tags WHERE dataset_id = $1 AND key = $2");
    let deleted = deleted.bind(dataset_id).bind(key);
    deleted.execute(conn).await.map(|_| ())
}

/// Notes that experiments use a dataset.
pub(crate) async fn link(
    conn: &mut Conn,
    dataset_id: &str,
    experiments: &[i64],
) -> Result<(), Error> {
    for experiment in experiments {
        query(
            "INSERT INTO evaluation_dataset_experiments (dataset_id, experiment_id) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(dataset_id)
        .bind(*experiment)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Forgets that experiments use a dataset.
pub(crate) async fn unlink(
    conn: &mut Conn,
    dataset_id: &str,
    experiments: &[i64],
) -> Result<(), Error> {
    for experiment in experiments {
        query("DELETE FROM evaluation_dataset_experiments WHERE dataset_id = $1 AND experiment_id = $2")
            .bind(dataset_id)
            .bind(*experiment)
            .execute(conn)
            .await?;
    }
    Ok(())
}
