//! Experiments: names for groups of runs.

use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::location::Location;
use crate::run::LifecycleStage;
use crate::store::{experiments, runs, tags};
use crate::{key, tag};

/// The name of experiment 0, which runs without an experiment belong to.
pub(crate) const DEFAULT_NAME: &str = "Default";

/// The longest name, in characters (`MAX_EXPERIMENT_NAME_LENGTH`).
const MAX_NAME_CHARS: usize = 500;

/// The longest artifact location, in characters (`MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH`).
const MAX_LOCATION_CHARS: usize = 2_048;

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// `"0"`, `"1"`, ...
    pub experiment_id: String,
    pub name: String,
    /// Where its runs keep their artifacts.
    pub artifact_location: String,
    pub lifecycle_stage: LifecycleStage,
    /// Epoch milliseconds.
    pub creation_time: i64,
    /// Epoch milliseconds.
    pub last_update_time: i64,
    /// The job that made it.
    pub job_id: Option<String>,
    pub tags: Vec<(String, String)>,
}

/// What a new experiment is made of.
#[derive(Debug, Clone, Default)]
pub struct NewExperiment {
    pub name: String,
    /// Absent: the server's own artifact store.
    pub artifact_location: Option<String>,
    pub tags: Vec<(String, String)>,
    pub job_id: Option<String>,
}

/// Reads an experiment's id; other servers have other ids, this one counts.
pub(crate) fn parse_id(experiment_id: &str) -> Result<i64, Error> {
    let digits = !experiment_id.is_empty() && experiment_id.bytes().all(|b| b.is_ascii_digit());
    let id = if digits {
        experiment_id.parse().ok()
    } else {
        None
    };
    id.ok_or_else(|| {
        Error::Invalid(format!(
            "Invalid experiment ID: '{experiment_id}': it must be a whole number"
        ))
    })
}

/// The error of an id that no experiment has.
pub(crate) fn not_found(id: i64) -> Error {
    Error::ExperimentNotFound {
        by: format!("id={id}"),
    }
}

/// Checks where an experiment's artifacts shall be: below this server's store, or elsewhere, where
/// only clients will look.
fn check_location(location: &str) -> Result<(), Error> {
    key::check_length(location, MAX_LOCATION_CHARS, "artifact_location")?;
    if location.contains(['?', '#']) {
        return Err(Error::Invalid(format!(
            "Artifact URL can't contain fragments or query params: '{location}'"
        )));
    }
    if location.starts_with("mlflow-artifacts:") {
        return Location::parse_uri(location).map(|_| ());
    }
    if location.split(['/', '\\']).any(|name| name == "..") {
        return Err(Error::Invalid(format!(
            "Invalid artifact_location '{location}': it holds '..'"
        )));
    }
    Ok(())
}

impl Tracking {
    /// Makes experiment 0 if it is missing.
    pub async fn ensure_default_experiment(&self) -> Result<(), Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let experiment = new_row(0, DEFAULT_NAME, None, None, now);
        if experiments::find(&mut tx, 0).await?.is_none() {
            match experiments::insert(&mut tx, &experiment).await {
                // Another server on the same database started at the same time.
                Err(error) if error.is_unique_violation() => return Ok(()),
                done => done?,
            }
        }
        Ok(tx.commit().await?)
    }

    /// The active experiment of this name, made if it is missing.
    ///
    /// # Errors
    /// [`Error::ExperimentExists`] when it exists but is deleted.
    pub async fn ensure_experiment(&self, name: &str) -> Result<Experiment, Error> {
        match self.find_experiment(name).await? {
            Some(found) if found.lifecycle_stage == LifecycleStage::Active => return Ok(found),
            Some(_) => return Err(Error::ExperimentExists(name.to_owned(), true)),
            None => {}
        }
        if let Some(external) = &self.external {
            external.create_experiment(name).await?;
            return self.get_experiment_by_name(name).await;
        }
        let new = NewExperiment {
            name: name.to_owned(),
            ..NewExperiment::default()
        };
        match self.create_experiment(new, Timestamp::now().0).await {
            // Another request made it meanwhile.
            Err(Error::ExperimentExists(..)) => self.get_experiment_by_name(name).await,
            made => made,
        }
    }

    /// Makes an experiment.
    ///
    /// # Errors
    /// [`Error::ExperimentExists`] when the name is taken, also by a deleted one.
    pub async fn create_experiment(
        &self,
        new: NewExperiment,
        now: i64,
    ) -> Result<Experiment, Error> {
        key::check_length(&new.name, MAX_NAME_CHARS, "name")?;
        let location = new.artifact_location.filter(|l| !l.is_empty());
        if let Some(location) = &location {
            check_location(location)?;
        }
        let tags = tag::check_all_of_experiment(new.tags)?;
        let mut tx = self.db.begin().await?;
        if let Some(taken) = experiments::find_by_name(&mut tx, &new.name).await? {
            let deleted = taken.lifecycle_stage == LifecycleStage::Deleted;
            // On SQLite it may be of the same group: whoever is told of it finds it from now on.
            tx.commit().await?;
            return Err(Error::ExperimentExists(new.name, deleted));
        }
        let id = db::next_id(&mut tx, "experiments").await?;
        let mut experiment = new_row(id, &new.name, location, new.job_id, now);
        if let Err(error) = experiments::insert(&mut tx, &experiment).await {
            return Err(if error.is_unique_violation() {
                Error::ExperimentExists(new.name, false)
            } else {
                error.into()
            });
        }
        tags::set_of_experiment(&mut tx, id, &tags).await?;
        tx.commit().await?;
        experiment.tags = tags.into_iter().collect();
        Ok(experiment)
    }

    /// The experiment with this id, deleted ones included.
    pub async fn get_experiment(&self, experiment_id: &str) -> Result<Experiment, Error> {
        if let Some(external) = &self.external {
            return external.get_experiment(experiment_id).await;
        }
        let id = parse_id(experiment_id)?;
        let mut conn = self.db.acquire().await?;
        experiments::find(&mut conn, id)
            .await?
            .ok_or_else(|| not_found(id))
    }

    /// The experiment of this name, deleted ones included.
    pub async fn find_experiment(&self, name: &str) -> Result<Option<Experiment>, Error> {
        if let Some(external) = &self.external {
            return external.find_experiment(name).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(experiments::find_by_name(&mut conn, name).await?)
    }

    /// The experiment of this name, deleted ones included.
    pub async fn get_experiment_by_name(&self, name: &str) -> Result<Experiment, Error> {
        let found = self.find_experiment(name).await?;
        found.ok_or_else(|| Error::ExperimentNotFound {
            by: format!("name='{name}'"),
        })
    }

    /// Renames an active experiment; a job renames only what it made.
    pub(crate) async fn rename_experiment(
        &self,
        experiment_id: &str,
        name: &str,
        job_id: Option<&str>,
        now: i64,
    ) -> Result<(), Error> {
        key::check_length(name, MAX_NAME_CHARS, "new_name")?;
        let id = parse_id(experiment_id)?;
        let mut tx = self.db.begin().await?;
        let found = experiments::find(&mut tx, id).await?;
        let experiment = found.ok_or_else(|| not_found(id))?;
        if let Some(job_id) = job_id.filter(|job| experiment.job_id.as_deref() != Some(job)) {
            return Err(Error::NotOwned {
                what: format!("experiment {id}"),
                job_id: job_id.to_owned(),
            });
        }
        if experiment.lifecycle_stage == LifecycleStage::Deleted {
            return Err(Error::Invalid(
                "Cannot rename a non-active experiment.".to_owned(),
            ));
        }
        match experiments::rename(&mut tx, id, name, now).await {
            Err(error) if error.is_unique_violation() => {
                return Err(Error::ExperimentExists(name.to_owned(), false));
            }
            done => done?,
        }
        Ok(tx.commit().await?)
    }

    /// Puts an experiment and its runs into the bin, or takes them out again. As with MLflow, only
    /// what is active can be deleted and only what is deleted can be restored.
    pub(crate) async fn set_experiment_stage(
        &self,
        experiment_id: &str,
        stage: LifecycleStage,
        now: i64,
    ) -> Result<(), Error> {
        let id = parse_id(experiment_id)?;
        let mut tx = self.db.begin().await?;
        if !experiments::set_stage(&mut tx, id, stage, now).await? {
            return Err(not_found(id));
        }
        runs::set_stage_in_experiment(&mut tx, id, stage, now).await?;
        Ok(tx.commit().await?)
    }
}

/// Where an experiment keeps artifacts unless it is told otherwise.
pub(crate) fn default_location(id: i64) -> String {
    format!("mlflow-artifacts:/{id}")
}

fn new_row(
    id: i64,
    name: &str,
    location: Option<String>,
    job_id: Option<String>,
    now: i64,
) -> Experiment {
    Experiment {
        experiment_id: id.to_string(),
        name: name.to_owned(),
        artifact_location: location.unwrap_or_else(|| default_location(id)),
        lifecycle_stage: LifecycleStage::Active,
        creation_time: now,
        last_update_time: now,
        job_id,
        tags: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experiments_id_is_a_number() {
        assert_eq!(parse_id("12").unwrap(), 12);
        for id in ["", "abc", "-1", "1.0", "99999999999999999999", "+1"] {
            assert!(parse_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_location_stays_where_it_says() {
        for place in [
            "s3://bucket/a",
            "mlflow-artifacts:/9",
            "/tmp/x",
            "file:///tmp/x",
        ] {
            assert!(check_location(place).is_ok(), "{place}");
        }
        for place in [
            "mlflow-artifacts:/../x",
            "mlflow-artifacts://elsewhere/x",
            "s3://bucket/../a",
            "s3://bucket/a?b",
            "/tmp/a#b",
        ] {
            assert!(check_location(place).is_err(), "{place}");
        }
    }
}
