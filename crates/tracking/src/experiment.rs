//! Experiments: names for groups of runs.

use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::run::LifecycleStage;
use crate::store::experiments;

/// The name of experiment 0, which runs without an experiment belong to.
pub(crate) const DEFAULT_NAME: &str = "Default";

/// The longest name, in characters (`MAX_EXPERIMENT_NAME_LENGTH`).
const MAX_NAME_CHARS: usize = 500;

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

fn not_found(id: i64) -> Error {
    Error::ExperimentNotFound {
        by: format!("id={id}"),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Error::Invalid(format!(
            "'name' exceeds the maximum length of {MAX_NAME_CHARS} characters"
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
            experiments::insert(&mut tx, &experiment).await?;
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
        check_name(&new.name)?;
        let mut tx = self.db.begin().await?;
        if let Some(taken) = experiments::find_by_name(&mut tx, &new.name).await? {
            let deleted = taken.lifecycle_stage == LifecycleStage::Deleted;
            return Err(Error::ExperimentExists(new.name, deleted));
        }
        let id = db::next_id(&mut tx, "experiments").await?;
        let location = new.artifact_location.filter(|l| !l.is_empty());
        let mut experiment = new_row(id, &new.name, location, new.job_id, now);
        if let Err(error) = experiments::insert(&mut tx, &experiment).await {
            return Err(if error.is_unique_violation() {
                Error::ExperimentExists(new.name, false)
            } else {
                error.into()
            });
        }
        experiments::set_tags(&mut tx, id, &new.tags).await?;
        tx.commit().await?;
        experiment.tags = new.tags;
        Ok(experiment)
    }

    /// The experiment with this id, deleted ones included.
    pub async fn get_experiment(&self, experiment_id: &str) -> Result<Experiment, Error> {
        let id = parse_id(experiment_id)?;
        let mut conn = self.db.acquire().await?;
        experiments::find(&mut conn, id)
            .await?
            .ok_or_else(|| not_found(id))
    }

    /// The experiment of this name, deleted ones included.
    pub async fn find_experiment(&self, name: &str) -> Result<Option<Experiment>, Error> {
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
        artifact_location: location.unwrap_or_else(|| format!("mlflow-artifacts:/{id}")),
        lifecycle_stage: LifecycleStage::Active,
        creation_time: now,
        last_update_time: now,
        job_id,
        tags: Vec::new(),
    }
}
