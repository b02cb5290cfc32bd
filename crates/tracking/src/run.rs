//! Runs: what a run is, and how it starts, changes and ends.

use std::collections::BTreeMap;

use db::Backend;
use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::store::new_runs::RunWithTags;
use crate::store::{experiments, runs, tags};
use crate::{experiment, id, key, tag};

/// The tag that is the run's name, both ways.
pub(crate) const NAME_TAG: &str = "mlflow.runName";

/// The tag that names the job of a run.
pub const JOB_TAG: &str = "asgard.job_id";

/// The longest name of a run, in characters: what its tag holds (`MAX_TAG_VAL_LENGTH`).
const MAX_NAME_CHARS: usize = 8_000;

/// Whether something counts or is in the bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleStage {
    Active,
    Deleted,
}

impl LifecycleStage {
    /// MLflow's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn read(text: &str) -> Self {
        if text == "deleted" {
            Self::Deleted
        } else {
            Self::Active
        }
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    Running,
    Scheduled,
    Finished,
    Failed,
    Killed,
}

impl RunStatus {
    /// MLflow's word (`service.proto`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Scheduled => "SCHEDULED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }

    /// Reads MLflow's word.
    pub fn parse(text: &str) -> Option<Self> {
        const ALL: [RunStatus; 5] = [
            RunStatus::Running,
            RunStatus::Scheduled,
            RunStatus::Finished,
            RunStatus::Failed,
            RunStatus::Killed,
        ];
        ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Reads the enum's number in `service.proto`.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Running,
            2 => Self::Scheduled,
            3 => Self::Finished,
            4 => Self::Failed,
            5 => Self::Killed,
            _ => return None,
        })
    }
}

/// A run, without what it logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// 32 hexadecimal digits.
    pub run_id: String,
    pub experiment_id: String,
    pub name: String,
    pub status: RunStatus,
    pub lifecycle_stage: LifecycleStage,
    pub user_id: String,
    /// Epoch milliseconds.
    pub start_time: i64,
    /// Epoch milliseconds.
    pub end_time: Option<i64>,
    /// Where its artifacts are.
    pub artifact_uri: String,
    /// The job that made it.
    pub job_id: Option<String>,
    /// The number that other tables refer to.
    pub(crate) row: i64,
}

/// What a new run is made of.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    pub experiment_id: String,
    /// Absent: a random name.
    pub name: Option<String>,
    /// Epoch milliseconds; absent: now.
    pub start_time: Option<i64>,
    pub user_id: String,
    pub tags: Vec<(String, String)>,
    pub job_id: Option<String>,
}

/// Changes to a run; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct RunUpdate {
    pub status: Option<RunStatus>,
    /// Epoch milliseconds.
    pub end_time: Option<i64>,
    pub name: Option<String>,
}

impl Run {
    /// Refuses to write to a deleted run, and to a job that did not make the run.
    pub(crate) fn check_writable(&self, job_id: Option<&str>) -> Result<(), Error> {
        self.check_owner(job_id)?;
        if self.lifecycle_stage == LifecycleStage::Deleted {
            return Err(Error::Invalid(format!(
                "The run {} must be in the 'active' state. Current state is deleted.",
                self.run_id
            )));
        }
        Ok(())
    }

    fn check_owner(&self, job_id: Option<&str>) -> Result<(), Error> {
        match job_id {
            Some(job_id) if self.job_id.as_deref() != Some(job_id) => Err(Error::NotOwned {
                what: format!("run {}", self.run_id),
                job_id: job_id.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn not_found(run_id: &str) -> Error {
    Error::RunNotFound(run_id.to_owned())
}

/// The run's row inside a transaction, for a writer.
pub(crate) async fn find_writable(
    conn: &mut db::Conn,
    run_id: &str,
    job_id: Option<&str>,
) -> Result<Run, Error> {
    let run = runs::find(conn, run_id).await?;
    let run = run.ok_or_else(|| not_found(run_id))?;
    run.check_writable(job_id)?;
    Ok(run)
}

impl Tracking {
    /// The run with this id, deleted ones included.
    pub async fn get_run(&self, run_id: &str) -> Result<Run, Error> {
        if let Some(external) = &self.external {
            return external.get_run(run_id).await;
        }
        let mut conn = self.db.acquire().await?;
        runs::find(&mut conn, run_id)
            .await?
            .ok_or_else(|| not_found(run_id))
    }

    /// The runs that a job made, oldest first.
    pub async fn runs_of_job(&self, job_id: &str) -> Result<Vec<Run>, Error> {
        if let Some(external) = &self.external {
            return external.runs_of_job(job_id).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(runs::list_of_job(&mut conn, job_id).await?)
    }

    /// Ends those runs of a job that are still running, and tells how many.
    pub async fn end_runs_of_job(&self, job_id: &str, status: RunStatus) -> Result<u64, Error> {
        if let Some(external) = &self.external {
            return external.end_runs_of_job(job_id, status).await;
        }
        let mut tx = self.db.begin().await?;
        let ended = Self::end_runs_of_job_in(&mut tx, job_id, status).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// The same within a transaction of the jobs: a job that is taken from a dead server and its
    /// runs change together, or not at all.
    pub async fn end_runs_of_job_in(
        tx: &mut db::Tx,
        job_id: &str,
        status: RunStatus,
    ) -> Result<u64, Error> {
        let now = Timestamp::now().0;
        let ended = runs::end_running_of_job(tx, job_id, status, now).await?;
        if ended > 0 {
            runs::settle_metrics_of_job(tx, job_id).await?;
        }
        Ok(ended)
    }

    /// Starts a run in an active experiment, and gives its tags too: its name is one of them.
    pub async fn create_run(&self, new: NewRun) -> Result<Run, Error> {
        self.create_run_with_tags(new).await.map(|(run, _)| run)
    }

    pub(crate) async fn create_run_with_tags(
        &self,
        new: NewRun,
    ) -> Result<(Run, BTreeMap<String, String>), Error> {
        let experiment_id = experiment::parse_id(&new.experiment_id)?;
        let mut tags = tag::check_all(new.tags)?;
        let name = choose_name(new.name, tags.get(NAME_TAG).map(String::as_str))?;
        tags.insert(NAME_TAG.to_owned(), name.clone());
        if let Some(job_id) = &new.job_id {
            tags.insert(JOB_TAG.to_owned(), job_id.clone());
        }
        let mut run = Run {
            run_id: id::random_hex()?,
            experiment_id: new.experiment_id,
            name,
            status: RunStatus::Running,
            lifecycle_stage: LifecycleStage::Active,
            user_id: new.user_id,
            start_time: new.start_time.unwrap_or_else(|| Timestamp::now().0),
            end_time: None,
            artifact_uri: String::new(),
            job_id: new.job_id,
            row: 0,
        };
        if self.db.backend() == Backend::Postgres {
            let new = RunWithTags {
                run: run.clone(),
                experiment_id,
                tags: tags.clone(),
            };
            if let Some((row, artifact_uri)) = self.run_writes.write(&self.db, new).await? {
                (run.row, run.artifact_uri) = (row, artifact_uri);
                return Ok((run, tags));
            }
            // Nothing was made; what follows says why.
        }
        let mut tx = self.db.begin().await?;
        let location = experiments::location_of_active(&mut tx, experiment_id)
            .await?
            .ok_or_else(|| experiment::not_found(experiment_id))?;
        let Some(location) = location else {
            return Err(Error::Invalid(format!(
                "The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
            )));
        };
        let root = location.trim_end_matches('/');
        run.artifact_uri = format!("{root}/{}/artifacts", run.run_id);
        run.row = runs::insert(&mut tx, &run).await?;
        tags::set_of_run(&mut tx, run.row, &tags).await?;
        tx.commit().await?;
        Ok((run, tags))
    }

    /// Changes an active run's status, end or name.
    pub(crate) async fn update_run(
        &self,
        run_id: &str,
        update: RunUpdate,
        job_id: Option<&str>,
    ) -> Result<Run, Error> {
        let mut tx = self.db.begin().await?;
        let mut run = find_writable(&mut tx, run_id, job_id).await?;
        run.status = update.status.unwrap_or(run.status);
        run.end_time = update.end_time.or(run.end_time);
        if let Some(name) = update.name.filter(|name| !name.is_empty()) {
            key::check_length(&name, MAX_NAME_CHARS, "run_name")?;
            let tag = BTreeMap::from([(NAME_TAG.to_owned(), name.clone())]);
            tags::set_of_run(&mut tx, run.row, &tag).await?;
            run.name = name;
        }
        runs::update(&mut tx, &run).await?;
        if update.status.is_some() {
            let settled = run.status != RunStatus::Running;
            runs::settle_metrics(&mut tx, run.row, settled).await?;
        }
        tx.commit().await?;
        Ok(run)
    }

    /// Puts a run into the bin, or takes it out again; doing it twice changes nothing.
    pub(crate) async fn set_run_stage(
        &self,
        run_id: &str,
        stage: LifecycleStage,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let run = runs::find(&mut tx, run_id).await?;
        let run = run.ok_or_else(|| not_found(run_id))?;
        run.check_owner(job_id)?;
        if run.lifecycle_stage != stage && !runs::set_stage(&mut tx, run.row, stage, now).await? {
            return Err(not_found(run_id));
        }
        Ok(tx.commit().await?)
    }
}

/// The name of a new run: what was asked for, as a field or as a tag, else a random one.
fn choose_name(name: Option<String>, tag: Option<&str>) -> Result<String, Error> {
    let name = name.filter(|name| !name.is_empty());
    let tag = tag.filter(|tag| !tag.is_empty());
    let chosen = match (name, tag) {
        (Some(name), Some(tag)) if name != tag => {
            return Err(Error::Invalid(format!(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='{name}', mlflow.runName='{tag}')."
            )));
        }
        (Some(name), _) => name,
        (None, Some(tag)) => tag.to_owned(),
        (None, None) => id::random_name()?,
    };
    key::check_length(&chosen, MAX_NAME_CHARS, "run_name")?;
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_name_of_its_field_or_its_tag_or_a_random_one() {
        let choose = |name: Option<&str>, tag| choose_name(name.map(str::to_owned), tag);
        assert_eq!(choose(Some("a"), None).unwrap(), "a");
        assert_eq!(choose(None, Some("b")).unwrap(), "b");
        assert_eq!(choose(Some("a"), Some("a")).unwrap(), "a");
        assert!(choose(Some("a"), Some("b")).is_err());
        assert_eq!(choose(Some(""), None).unwrap().split('-').count(), 3);
    }

    #[test]
    fn a_status_has_a_word_and_a_number() {
        for number in 1..=5 {
            let status = RunStatus::from_number(number).unwrap();
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RunStatus::parse("running"), None);
        assert_eq!(RunStatus::from_number(0), None);
    }
}
