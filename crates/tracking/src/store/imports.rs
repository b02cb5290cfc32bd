//! Whole lists of rows of another server, written beside what is here.

use std::collections::{BTreeMap, HashMap, HashSet};

use db::{Conn, Error, Value, query};
use prost::Message as _;

use super::{Texts, metrics as metric_rows, rows_of_values};
use crate::experiment::{DEFAULT_NAME, Experiment};
use crate::import::{
    ImportedAssessment, ImportedDataset, ImportedInput, ImportedMetric, ImportedModelLink,
    ImportedPair, ImportedRun, ImportedSpan, PairKind, Taken, ids,
};
use crate::logged_model::{LoggedModel, LoggedModelMetric};
use crate::metric::{LoggedMetric, Metric};
use crate::span::hex;
use crate::store::experiments;
use crate::trace::Trace;

/// Rows of one INSERT.
const ROWS: usize = 500;

/// Adds the rows that are not there yet, and tells how many.
async fn insert_new(
    conn: &mut Conn,
    table: &str,
    columns: &[&str],
    rows: Vec<Vec<Value>>,
) -> Result<u64, Error> {
    let mut new = 0;
    for chunk in rows.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO {table} ({}) VALUES {} ON CONFLICT DO NOTHING",
            columns.join(", "),
            rows_of_values(conn.backend(), chunk.len(), columns.len())
        );
        let values = chunk.iter().flatten().cloned();
        new += query(sql).bind_all(values).execute(conn).await?;
    }
    Ok(new)
}

/// Which of these ids a table has.
async fn present<'i>(
    conn: &mut Conn,
    table: &str,
    column: &str,
    ids: impl IntoIterator<Item = &'i str>,
) -> Result<HashSet<String>, Error> {
    let ids = Texts::of(ids);
    let among = ids.select(conn.backend(), 1);
    let text = format!("CAST({column} AS TEXT)");
    let sql = match column {
        "experiment_id" => format!("SELECT {text} FROM {table} WHERE {text} IN ({among})"),
        _ => format!("SELECT {column} FROM {table} WHERE {column} IN ({among})"),
    };
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The numbers of the runs with these ids.
async fn run_numbers<'i>(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = &'i str>,
) -> Result<HashMap<String, i64>, Error> {
    let ids = Texts::of(ids);
    let among = ids.select(conn.backend(), 1);
    let sql = format!("SELECT run_id, run FROM runs WHERE run_id IN ({among})");
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

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

/// The number that an id of an experiment is.
fn number(experiment_id: &str) -> Value {
    experiment_id
        .parse::<i64>()
        .expect("an experiment's id is made from a number")
        .into()
}

pub(crate) async fn pairs(
    conn: &mut Conn,
    kind: PairKind,
    pairs: &[ImportedPair],
) -> Result<Taken, Error> {
    let owners = ids(pairs, |pair| &pair.owner);
    let (table, column, owners): (_, _, HashMap<String, Value>) = match kind {
        PairKind::Param | PairKind::RunTag => {
            let numbers = run_numbers(conn, owners).await?.into_iter();
            let table = match kind {
                PairKind::Param => "params",
                _ => "tags",
            };
            (
                table,
                "run",
                numbers.map(|(id, n)| (id, n.into())).collect(),
            )
        }
        PairKind::ExperimentTag => {
            let known = present(conn, "experiments", "experiment_id", owners).await?;
            let known = known.into_iter().map(|id| (id.clone(), number(&id)));
            ("experiment_tags", "experiment_id", known.collect())
        }
        PairKind::LoggedModelParam | PairKind::LoggedModelTag => {
            let known = present(conn, "logged_models", "model_id", owners).await?;
            let table = match kind {
                PairKind::LoggedModelParam => "logged_model_params",
                _ => "logged_model_tags",
            };
            (table, "model_id", by_name(known))
        }
        PairKind::TraceTag | PairKind::TraceMetadata => {
            let known = present(conn, "traces", "trace_id", owners).await?;
            let table = match kind {
                PairKind::TraceTag => "trace_tags",
                _ => "trace_metadata",
            };
            (table, "trace_id", by_name(known))
        }
    };
    let row = |pair: &ImportedPair| {
        let owner = owners.get(&pair.owner)?.clone();
        Some(vec![
            owner,
            Value::from(&pair.key),
            Value::from(&pair.value),
        ])
    };
    let rows: Vec<_> = pairs.iter().filter_map(row).collect();
    let orphans = (pairs.len() - rows.len()) as u64;
    let new = insert_new(conn, table, &[column, "key", "value"], rows).await?;
    Ok(Taken { new, orphans })
}

fn by_name(known: HashSet<String>) -> HashMap<String, Value> {
    let value = |id: String| (id.clone(), Value::from(id));
    known.into_iter().map(value).collect()
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

pub(crate) async fn traces(conn: &mut Conn, traces: &[Trace]) -> Result<Taken, Error> {
    let columns = [
        "trace_id",
        "experiment_id",
        "request_time",
        "duration_ms",
        "state",
        "client_request_id",
        "request_preview",
        "response_preview",
    ];
    let experiments = ids(traces, |t| &t.experiment_id);
    let known = present(conn, "experiments", "experiment_id", experiments).await?;
    let row = |t: &Trace| {
        vec![
            Value::from(&t.trace_id),
            number(&t.experiment_id),
            t.request_time.into(),
            t.duration_ms.into(),
            t.state.as_str().into(),
            Value::from(&t.client_request_id),
            Value::from(&t.request_preview),
            Value::from(&t.response_preview),
        ]
    };
    let kept = traces.iter().filter(|t| known.contains(&t.experiment_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (traces.len() - rows.len()) as u64;
    let new = insert_new(conn, "traces", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn spans(conn: &mut Conn, spans: &[ImportedSpan]) -> Result<Taken, Error> {
    let known = present(conn, "traces", "trace_id", ids(spans, |s| &s.trace_id)).await?;
    let row = |s: &ImportedSpan| {
        vec![
            Value::from(&s.trace_id),
            hex(&s.span.span_id).into(),
            i64::try_from(s.span.start_ns).unwrap_or(i64::MAX).into(),
            s.span.encode_to_vec().into(),
        ]
    };
    let kept = spans.iter().filter(|s| known.contains(&s.trace_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (spans.len() - rows.len()) as u64;
    let columns = ["trace_id", "span_id", "start_ns", "message"];
    let new = insert_new(conn, "trace_spans", &columns, rows).await?;
    Ok(Taken { new, orphans })
}

pub(crate) async fn assessments(
    conn: &mut Conn,
    assessments: &[ImportedAssessment],
) -> Result<Taken, Error> {
    let traces = ids(assessments, |a| &a.trace_id);
    let known = present(conn, "traces", "trace_id", traces).await?;
    let row = |a: &ImportedAssessment| {
        vec![
            Value::from(&a.assessment_id),
            Value::from(&a.trace_id),
            serde_json::Value::from(a.message.clone())
                .to_string()
                .into(),
            a.created_at.into(),
        ]
    };
    let kept = assessments.iter().filter(|a| known.contains(&a.trace_id));
    let rows: Vec<_> = kept.map(row).collect();
    let orphans = (assessments.len() - rows.len()) as u64;
    let columns = ["assessment_id", "trace_id", "message", "created_at"];
    let new = insert_new(conn, "trace_assessments", &columns, rows).await?;
    Ok(Taken { new, orphans })
}
