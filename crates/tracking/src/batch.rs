//! Batches: what a run logs in one request, all or nothing.

use std::collections::BTreeMap;

use db::Backend;

use crate::Tracking;
use crate::error::Error;
use crate::metric::{self, LoggedMetric};
use crate::run::{Run, find_writable};
use crate::store::run_points::RunPoints;
use crate::store::{metrics, tags};
use crate::{key, tag};

/// Limits of one request (`mlflow/utils/validation.py`).
const MAX_METRICS: usize = 1_000;
const MAX_PARAMS: usize = 100;
const MAX_TAGS: usize = 100;
const MAX_TOTAL: usize = 1_000;

/// A longer param is cut to this (`MAX_PARAM_VAL_LENGTH`, MLFLOW_TRUNCATE_LONG_VALUES).
const MAX_PARAM_VALUE_CHARS: usize = 6_000;

/// What a run logs in one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    pub metrics: Vec<LoggedMetric>,
    pub params: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
}

/// A batch that holds nothing wrong.
struct Checked {
    metrics: Vec<LoggedMetric>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

impl Batch {
    fn check(self) -> Result<Checked, Error> {
        let metrics = self.metrics;
        check_count(metrics.len(), MAX_METRICS, "metrics")?;
        check_count(self.params.len(), MAX_PARAMS, "params")?;
        check_count(self.tags.len(), MAX_TAGS, "tags")?;
        let total = metrics.len() + self.params.len() + self.tags.len();
        check_count(total, MAX_TOTAL, "metrics, params, and tags")?;
        metric::check(&metrics, |index, field| format!("metrics[{index}].{field}"))?;
        Ok(Checked {
            metrics,
            params: check_params(self.params)?,
            tags: tag::check_all(self.tags)?,
        })
    }
}

impl Checked {
    /// Whether there are only metrics, none of which belongs to a logged model.
    fn is_plain_metrics(&self) -> bool {
        let of_models = self.metrics.iter().any(|logged| logged.model_id.is_some());
        !self.metrics.is_empty() && !of_models && self.params.is_empty() && self.tags.is_empty()
    }
}

fn check_count(count: usize, max: usize, what: &str) -> Result<(), Error> {
    if count > max {
        return Err(Error::Invalid(format!(
            "A batch logging request can contain at most {max} {what}. Got {count} {what}. Please split up {what} across multiple requests and try again."
        )));
    }
    Ok(())
}

fn check_params(params: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    let mut checked = BTreeMap::new();
    for (index, (key, value)) in params.into_iter().enumerate() {
        key::check(&key, &format!("params[{index}].key"))?;
        let value = key::cut(value, MAX_PARAM_VALUE_CHARS);
        if checked.insert(key.clone(), value).is_some() {
            return Err(Error::Invalid(format!(
                "Duplicate parameter keys have been submitted: ['{key}']. Please ensure the request contains only one param value per param key."
            )));
        }
    }
    Ok(checked)
}

impl Tracking {
    /// Logs a batch to an active run.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a param has another value already; nothing is logged then.
    pub async fn log_batch(
        &self,
        run_id: &str,
        batch: Batch,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let batch = batch.check()?;
        if self.db.backend() == Backend::Postgres && batch.is_plain_metrics() {
            let points = RunPoints {
                run_id: run_id.to_owned(),
                job_id: job_id.map(str::to_owned),
                points: batch
                    .metrics
                    .iter()
                    .map(|logged| logged.metric.clone())
                    .collect(),
                resends: self.resends.clone(),
            };
            if self.point_writes.write(&self.db, points).await? {
                return Ok(());
            }
            // Nothing was logged; what follows says why.
        }
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, job_id).await?;
        insert_params(&mut tx, &run, &batch.params).await?;
        metrics::insert(&mut tx, run.row, &batch.metrics).await?;
        metrics::insert_of_models(&mut tx, run_id, &batch.metrics).await?;
        if !batch.tags.is_empty() {
            tag::write_of_run(&mut tx, &run, batch.tags).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Adds params, none of which may have another value already.
async fn insert_params(
    conn: &mut db::Conn,
    run: &Run,
    params: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let new = tags::insert_params(conn, run.row, params).await?;
    if new == params.len() as u64 {
        return Ok(());
    }
    let keys = params.keys().map(String::as_str);
    for (key, old) in tags::params_of_run(conn, run.row, keys).await? {
        let wanted = &params[&key];
        if *wanted != old {
            return Err(Error::Invalid(format!(
                "Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' for run ID='{}'. Attempted logging new value '{wanted}'.",
                run.run_id
            )));
        }
    }
    Ok(())
}
