//! Runs of another server, with their metrics and the datasets that they read.

use std::collections::BTreeMap;

use db::{Conn, Error, Value, query};

use super::{insert_new, number, present, run_numbers};
use crate::import::{ImportedDataset, ImportedInput, ImportedMetric, ImportedRun, Taken, ids};
use crate::metric::LoggedMetric;
use crate::store::metrics as metric_rows;

pub(crate) async fn runs(conn: &mut Conn, runs: &[ImportedRun]) -> Result<Taken, Error> {
    let columns = [
        "run_id",
        "experiment_id",
        "name",
        "status",
        "lifecycle_stage",
        "user_id",
        "start_time",
        "end_time",
        "deleted_time",
        "artifact_uri",
    ];
    let known = present(
        conn,
        "experiments",
        "experiment_id",
        ids(runs, |run| &run.experiment_id),
    )
    .await?;
    let mut rows = Vec::new();
    for run in runs.iter().filter(|run| known.contains(&run.experiment_id)) {
        rows.push(vec![
            Value::from(&run.run_id),
            number(&run.experiment_id),
            Value::from(&run.name),
            run.status.as_str().into(),
            run.lifecycle_stage.as_str().into(),
            Value::from(&run.user_id),
            run.start_time.into(),
            run.end_time.into(),
            run.deleted_time.into(),
            Value::from(&run.artifact_uri),
        ]);
        end_run(conn, run).await?;
    }
    let orphans = (runs.len() - rows.len()) as u64;
    let new = insert_new(conn, "runs", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

/// Ends a run that is here and still runs, as it ended there.
async fn end_run(conn: &mut Conn, run: &ImportedRun) -> Result<(), Error> {
    if run.end_time.is_none() {
        return Ok(());
    }
    query(
        "UPDATE runs SET status = $2, end_time = $3
         WHERE run_id = $1 AND status IN ('RUNNING', 'SCHEDULED')",
    )
    .bind(&run.run_id)
    .bind(run.status.as_str())
    .bind(run.end_time)
    .execute(conn)
    .await
    .map(|_| ())
}

pub(crate) async fn metrics(conn: &mut Conn, metrics: &[ImportedMetric]) -> Result<Taken, Error> {
    let runs = run_numbers(conn, ids(metrics, |m| &m.run_id)).await?;
    let mut of_run = BTreeMap::<i64, Vec<LoggedMetric>>::new();
    let mut taken = Taken::default();
    for point in metrics {
        let Some(run) = runs.get(&point.run_id) else {
            taken.orphans += 1;
            continue;
        };
        of_run.entry(*run).or_default().push(LoggedMetric {
            metric: point.metric.clone(),
            model_id: None,
            dataset_name: None,
            dataset_digest: None,
        });
    }
    for (run, points) in of_run {
        taken.new += metric_rows::insert(conn, run, &points).await?;
    }
    Ok(taken)
}

pub(crate) async fn datasets(
    conn: &mut Conn,
    datasets: &[ImportedDataset],
) -> Result<Taken, Error> {
    let columns = [
        "dataset_id",
        "experiment_id",
        "name",
        "digest",
        "source_type",
        "source",
        "schema",
        "profile",
    ];
    let experiments = ids(datasets, |d| &d.experiment_id);
    let known = present(conn, "experiments", "experiment_id", experiments).await?;
    let row = |d: &ImportedDataset| {
        vec![
            Value::from(&d.dataset_id),
            number(&d.experiment_id),
            Value::from(&d.dataset.name),
            Value::from(&d.dataset.digest),
            Value::from(&d.dataset.source_type),
            Value::from(&d.dataset.source),
            Value::from(&d.dataset.schema),
            Value::from(&d.dataset.profile),
        ]
    };
    let kept = datasets.iter().filter(|d| known.contains(&d.experiment_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (datasets.len() - rows.len()) as u64;
    let new = insert_new(conn, "datasets", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn inputs(conn: &mut Conn, inputs: &[ImportedInput]) -> Result<Taken, Error> {
    let runs = run_numbers(conn, ids(inputs, |i| &i.run_id)).await?;
    let known = present(
        conn,
        "datasets",
        "dataset_id",
        ids(inputs, |i| &i.dataset_id),
    )
    .await?;
    let (mut links, mut tags, mut orphans) = (Vec::new(), Vec::new(), 0);
    for input in inputs {
        let Some(run) = runs
            .get(&input.run_id)
            .filter(|_| known.contains(&input.dataset_id))
        else {
            orphans += 1;
            continue;
        };
        let mut row = vec![Value::from(*run), Value::from(&input.dataset_id)];
        match &input.tag {
            None => {
                row.push(0_i64.into());
                links.push(row);
            }
            Some((key, value)) => {
                row.extend([Value::from(key), Value::from(value)]);
                tags.push(row);
            }
        }
    }
    let columns = ["run", "dataset_id", "position"];
    let mut new = insert_new(conn, "run_datasets", &columns, links).await?;
    let columns = ["run", "dataset_id", "key", "value"];
    new += insert_new(conn, "run_dataset_tags", &columns, tags).await?;
    Ok(Taken { new, orphans })
}
