//! The rows of logged models.

use std::collections::{BTreeMap, HashMap};

use db::{Conn, Error, Row, query};

use super::Texts;
use crate::logged_model::{LoggedModel, LoggedModelMetric, LoggedModelStatus};
use crate::run::LifecycleStage;

pub(super) const COLUMNS: &str = "m.model_id, m.experiment_id, m.name, m.artifact_uri, \
     m.creation_time, m.last_update_time, m.status, m.status_message, m.lifecycle_stage, \
     m.model_type, m.source_run_id, m.job_id";

pub(crate) async fn insert(conn: &mut Conn, model: &LoggedModel) -> Result<(), Error> {
    let experiment_id: i64 = model.experiment_id.parse().unwrap_or_default();
    query(
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_uri, creation_time,
             last_update_time, status, status_message, lifecycle_stage, model_type, source_run_id,
             job_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&model.model_id)
    .bind(experiment_id)
    .bind(&model.name)
    .bind(&model.artifact_uri)
    .bind(model.creation_time)
    .bind(model.last_update_time)
    .bind(model.status.as_str())
    .bind(&model.status_message)
    .bind(model.lifecycle_stage.as_str())
    .bind(&model.model_type)
    .bind(&model.source_run_id)
    .bind(&model.job_id)
    .execute(conn)
    .await?;
    insert_params(conn, &model.model_id, &model.params).await?;
    let tags: Vec<_> = model.tags.clone().into_iter().collect();
    set_tags(conn, &model.model_id, &tags).await
}

pub(crate) async fn insert_params(
    conn: &mut Conn,
    model_id: &str,
    params: &BTreeMap<String, String>,
) -> Result<(), Error> {
    for (key, value) in params {
        query("INSERT INTO logged_model_params (model_id, key, value) VALUES ($1, $2, $3)")
            .bind(model_id)
            .bind(key)
            .bind(value)
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub(crate) async fn set_tags(
    conn: &mut Conn,
    model_id: &str,
    tags: &[(String, String)],
) -> Result<(), Error> {
    for (key, value) in tags {
        query(
            "INSERT INTO logged_model_tags (model_id, key, value) VALUES ($1, $2, $3)
             ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value",
        )
        .bind(model_id)
        .bind(key)
        .bind(value)
        .execute(conn)
        .await?;
    }
    Ok(())
}

pub(crate) async fn delete_tag(conn: &mut Conn, model_id: &str, key: &str) -> Result<u64, Error> {
    query("DELETE FROM logged_model_tags WHERE model_id = $1 AND key = $2")
        .bind(model_id)
        .bind(key)
        .execute(conn)
        .await
}

pub(crate) async fn update_status(
    conn: &mut Conn,
    model_id: &str,
    status: LoggedModelStatus,
    now: i64,
) -> Result<(), Error> {
    query("UPDATE logged_models SET status = $2, last_update_time = $3 WHERE model_id = $1")
        .bind(model_id)
        .bind(status.as_str())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn mark_deleted(conn: &mut Conn, model_id: &str, now: i64) -> Result<(), Error> {
    query(
        "UPDATE logged_models SET lifecycle_stage = $2, last_update_time = $3 WHERE model_id = $1",
    )
    .bind(model_id)
    .bind(LifecycleStage::Deleted.as_str())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn find(conn: &mut Conn, model_id: &str) -> Result<Option<LoggedModel>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM logged_models m WHERE m.model_id = $1"
    ))
    .bind(model_id)
    .fetch_all(conn)
    .await?;
    Ok(complete(conn, &rows).await?.pop())
}

pub(crate) async fn list_of_job(conn: &mut Conn, job_id: &str) -> Result<Vec<LoggedModel>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM logged_models m
         WHERE m.job_id = $1 AND m.lifecycle_stage = 'active'
         ORDER BY m.creation_time, m.model_id LIMIT 1000"
    ))
    .bind(job_id)
    .fetch_all(conn)
    .await?;
    complete(conn, &rows).await
}

pub(crate) async fn list_of_run(conn: &mut Conn, run_id: &str) -> Result<Vec<LoggedModel>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM logged_models m
         WHERE m.source_run_id = $1 AND m.lifecycle_stage = 'active'
         ORDER BY m.creation_time DESC, m.model_id LIMIT 1000"
    ))
    .bind(run_id)
    .fetch_all(conn)
    .await?;
    complete(conn, &rows).await
}

/// Makes models of their rows, with their params, tags and metrics: three statements however
/// many models.
pub(super) async fn complete(conn: &mut Conn, rows: &[Row]) -> Result<Vec<LoggedModel>, Error> {
    let mut models: Vec<LoggedModel> = rows.iter().map(model).collect();
    if models.is_empty() {
        return Ok(models);
    }
    let ids: Vec<String> = models.iter().map(|m| m.model_id.clone()).collect();
    let bound = Texts::of(ids.iter().map(String::as_str));
    let these = bound.select(conn.backend(), 1);
    let index: HashMap<&str, usize> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| (id.as_str(), at))
        .collect();
    let at = |row: &Row| index.get(row.get::<String, _>(0).as_str()).copied();

    query(format!(
        "SELECT model_id, key, value FROM logged_model_tags WHERE model_id IN ({these})"
    ))
    .bind(bound.text())
    .for_each(conn, |row| {
        if let Some(at) = at(row) {
            models[at].tags.insert(row.get(1), row.get(2));
        }
    })
    .await?;
    query(format!(
        "SELECT model_id, key, value FROM logged_model_params WHERE model_id IN ({these})"
    ))
    .bind(bound.text())
    .for_each(conn, |row| {
        if let Some(at) = at(row) {
            models[at].params.insert(row.get(1), row.get(2));
        }
    })
    .await?;
    query(format!(
        "SELECT model_id, key, value, is_nan, timestamp, step, run_id, dataset_name, dataset_digest
         FROM logged_model_metrics WHERE model_id IN ({these})
         ORDER BY model_id, key, timestamp, step"
    ))
    .bind(bound.text())
    .for_each(conn, |row| {
        if let Some(at) = at(row) {
            models[at].metrics.push(metric(row));
        }
    })
    .await?;
    Ok(models)
}

fn model(row: &Row) -> LoggedModel {
    let status: String = row.get(6);
    LoggedModel {
        model_id: row.get(0),
        experiment_id: row.get::<i64, _>(1).to_string(),
        name: row.get(2),
        artifact_uri: row.get(3),
        creation_time: row.get(4),
        last_update_time: row.get(5),
        status: LoggedModelStatus::parse(&status).unwrap_or(LoggedModelStatus::Pending),
        status_message: row.get(7),
        lifecycle_stage: LifecycleStage::read(&row.get::<String, _>(8)),
        model_type: row.get(9),
        source_run_id: row.get(10),
        job_id: row.get(11),
        tags: BTreeMap::new(),
        params: BTreeMap::new(),
        metrics: Vec::new(),
    }
}

fn metric(row: &Row) -> LoggedModelMetric {
    LoggedModelMetric {
        key: row.get(1),
        value: if row.get(3) { f64::NAN } else { row.get(2) },
        timestamp: row.get(4),
        step: row.get(5),
        run_id: row.get(6),
        dataset_name: row.get(7),
        dataset_digest: row.get(8),
    }
}
