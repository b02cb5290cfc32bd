//! Logged models of another server, with their metrics and the runs that they belong to.

use db::{Conn, Error, Value};

use super::{insert_new, number, present, run_numbers};
use crate::import::{ImportedModelLink, Taken, ids};
use crate::logged_model::{LoggedModel, LoggedModelMetric};
use crate::metric::Metric;

pub(crate) async fn logged_models(conn: &mut Conn, models: &[LoggedModel]) -> Result<Taken, Error> {
    let columns = [
        "model_id",
        "experiment_id",
        "name",
        "artifact_uri",
        "creation_time",
        "last_update_time",
        "status",
        "status_message",
        "lifecycle_stage",
        "model_type",
        "source_run_id",
    ];
    let experiments = ids(models, |m| &m.experiment_id);
    let known = present(conn, "experiments", "experiment_id", experiments).await?;
    let row = |m: &LoggedModel| {
        vec![
            Value::from(&m.model_id),
            number(&m.experiment_id),
            Value::from(&m.name),
            Value::from(&m.artifact_uri),
            m.creation_time.into(),
            m.last_update_time.into(),
            m.status.as_str().into(),
            Value::from(&m.status_message),
            m.lifecycle_stage.as_str().into(),
            Value::from(&m.model_type),
            Value::from(&m.source_run_id),
        ]
    };
    let kept = models.iter().filter(|m| known.contains(&m.experiment_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (models.len() - rows.len()) as u64;
    let new = insert_new(conn, "logged_models", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn model_metrics(
    conn: &mut Conn,
    metrics: &[(String, LoggedModelMetric)],
) -> Result<Taken, Error> {
    let columns = [
        "model_id",
        "key",
        "timestamp",
        "step",
        "value",
        "is_nan",
        "run_id",
        "dataset_name",
        "dataset_digest",
    ];
    let models = ids(metrics, |(model_id, _)| model_id);
    let known = present(conn, "logged_models", "model_id", models).await?;
    let row = |(model_id, m): &(String, LoggedModelMetric)| {
        let point = Metric {
            key: m.key.clone(),
            value: m.value,
            timestamp: m.timestamp,
            step: m.step,
        };
        let (value, is_nan) = point.stored();
        vec![
            Value::from(model_id),
            Value::from(&m.key),
            m.timestamp.into(),
            m.step.into(),
            value.into(),
            is_nan.into(),
            Value::from(&m.run_id),
            Value::from(&m.dataset_name),
            Value::from(&m.dataset_digest),
        ]
    };
    let kept = metrics
        .iter()
        .filter(|(model_id, _)| known.contains(model_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (metrics.len() - rows.len()) as u64;
    let new = insert_new(conn, "logged_model_metrics", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn model_links(
    conn: &mut Conn,
    links: &[ImportedModelLink],
) -> Result<Taken, Error> {
    let runs = run_numbers(conn, ids(links, |l| &l.run_id)).await?;
    let row = |link: &ImportedModelLink| {
        Some(vec![
            Value::from(*runs.get(&link.run_id)?),
            link.direction.as_str().into(),
            Value::from(&link.model_id),
            link.step.into(),
        ])
    };
    let rows: Vec<_> = links.iter().filter_map(row).collect();
    let orphans = (links.len() - rows.len()) as u64;
    let columns = ["run", "direction", "model_id", "step"];
    let new = insert_new(conn, "run_models", &columns, rows).await?;
    Ok(Taken { new, orphans })
}
