//! Tags: words on experiments and runs, which may change.

use std::collections::BTreeMap;

use crate::Tracking;
use crate::error::Error;
use crate::run::{NAME_TAG, find_writable};
use crate::store::{experiments, runs, tags};
use crate::{experiment, key};

/// A longer tag of a run is cut to this (`MAX_TAG_VAL_LENGTH`, MLFLOW_TRUNCATE_LONG_VALUES).
const MAX_RUN_VALUE_CHARS: usize = 8_000;

/// A longer tag of an experiment is refused (`MAX_EXPERIMENT_TAG_VAL_LENGTH`).
const MAX_EXPERIMENT_VALUE_CHARS: usize = 20_000;

/// Checks a caller's tags of a run and cuts long values; the last one of a key counts.
pub(crate) fn check_all(tags: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Error> {
    let checked = |(index, (key, value)): (usize, (String, String))| {
        key::check(&key, &format!("tags[{index}].key"))?;
        key::check_not_reserved(&key)?;
        Ok((key, key::cut(value, MAX_RUN_VALUE_CHARS)))
    };
    tags.into_iter().enumerate().map(checked).collect()
}

/// Checks a caller's tags of an experiment; the last one of a key counts.
pub(crate) fn check_all_of_experiment(
    tags: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Error> {
    let checked = |(key, value): (String, String)| {
        key::check(&key, "key")?;
        key::check_not_reserved(&key)?;
        key::check_length(&value, MAX_EXPERIMENT_VALUE_CHARS, "value")?;
        Ok((key, value))
    };
    tags.into_iter().map(checked).collect()
}

/// Writes tags of a run; the one that is its name renames it.
pub(crate) async fn write_of_run(
    conn: &mut db::Conn,
    run: &crate::Run,
    tags: BTreeMap<String, String>,
) -> Result<(), Error> {
    if let Some(name) = tags.get(NAME_TAG) {
        runs::rename(conn, run.row, name).await?;
    }
    Ok(tags::set_of_run(conn, run.row, &tags).await?)
}

impl Tracking {
    /// Sets tags of an active run.
    pub async fn set_run_tags(&self, run_id: &str, tags: &[(String, String)]) -> Result<(), Error> {
        if let Some(external) = &self.external {
            return external.set_run_tags(run_id, tags).await;
        }
        let tags = check_all(tags.to_vec())?;
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, None).await?;
        write_of_run(&mut tx, &run, tags).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a tag of an active run.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the run has no such tag.
    pub(crate) async fn delete_run_tag(
        &self,
        run_id: &str,
        key: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, job_id).await?;
        key::check_not_reserved(key)?;
        if !tags::delete_of_run(&mut tx, run.row, key).await? {
            return Err(Error::NotFound(format!(
                "No tag with name: {key} in run with id {run_id}"
            )));
        }
        Ok(tx.commit().await?)
    }

    /// Sets a tag of an active experiment; a job only of its own.
    pub(crate) async fn set_experiment_tag(
        &self,
        experiment_id: &str,
        (key, value): (String, String),
        job_id: Option<&str>,
        now: i64,
    ) -> Result<(), Error> {
        let id = experiment::parse_id(experiment_id)?;
        let tags = check_all_of_experiment(vec![(key, value)])?;
        self.check_own_experiment(experiment_id, job_id).await?;
        let mut tx = self.db.begin().await?;
        check_active_experiment(&mut tx, id, now).await?;
        tags::set_of_experiment(&mut tx, id, &tags).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a tag of an active experiment; a job only of its own.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the experiment has no such tag.
    pub(crate) async fn delete_experiment_tag(
        &self,
        experiment_id: &str,
        key: &str,
        job_id: Option<&str>,
        now: i64,
    ) -> Result<(), Error> {
        let id = experiment::parse_id(experiment_id)?;
        self.check_own_experiment(experiment_id, job_id).await?;
        let mut tx = self.db.begin().await?;
        check_active_experiment(&mut tx, id, now).await?;
        if !tags::delete_of_experiment(&mut tx, id, key).await? {
            return Err(Error::NotFound(format!(
                "No tag with name: {key} in experiment with id {id}"
            )));
        }
        Ok(tx.commit().await?)
    }
}

pub(crate) fn not_active(id: i64) -> Error {
    Error::Invalid(format!(
        "The experiment {id} must be in the 'active' state. Current state is deleted."
    ))
}

/// Notes that an experiment changes, and keeps other changes of it waiting.
///
/// # Errors
/// When there is no such experiment, or it is deleted.
pub(crate) async fn check_active_experiment(
    conn: &mut db::Conn,
    id: i64,
    now: i64,
) -> Result<(), Error> {
    if experiments::touch_active(conn, id, now).await? {
        return Ok(());
    }
    if experiments::location_of_active(conn, id).await?.is_none() {
        return Err(experiment::not_found(id));
    }
    Err(not_active(id))
}

/// The tag in which clients of 2.x keep what models a run logged.
const MODELS_TAG: &str = "mlflow.log-model.history";

impl Tracking {
    /// Adds a model's description to the run's tag of logged models, as clients of 2.x want it.
    pub(crate) async fn record_model(
        &self,
        run_id: &str,
        model: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let model = read_model(model)?;
        let mut tx = self.db.begin().await?;
        let run = find_writable(&mut tx, run_id, job_id).await?;
        let written = tags::find_of_run(&mut tx, run.row, MODELS_TAG).await?;
        let mut models: Vec<serde_json::Value> = written
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        models.push(model);
        let history = serde_json::Value::from(models).to_string();
        let tag = BTreeMap::from([(MODELS_TAG.to_owned(), history)]);
        tags::set_of_run(&mut tx, run.row, &tag).await?;
        Ok(tx.commit().await?)
    }
}

fn read_model(model: &str) -> Result<serde_json::Value, Error> {
    let read: serde_json::Value = serde_json::from_str(model)
        .map_err(|error| Error::Invalid(format!("Malformed model info. {error}")))?;
    let mandatory = ["run_id", "artifact_path", "utc_time_created", "flavors"];
    let missing = mandatory
        .into_iter()
        .filter(|name| read.get(name).is_none());
    let missing: Vec<&str> = missing.collect();
    if missing.is_empty() {
        return Ok(read);
    }
    Err(Error::Invalid(format!(
        "Model json is missing mandatory fields: {missing:?}"
    )))
}
