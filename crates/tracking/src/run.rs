//! Runs: what a run is, and how it starts, changes and ends.

use web::Timestamp;

use crate::Tracking;
use crate::error::Error;
use crate::experiment;
use crate::id;
use crate::store::{experiments, runs};

/// The tag that is the run's name, both ways.
pub(crate) const NAME_TAG: &str = "mlflow.runName";

/// The tag that names the job of a run.
pub const JOB_TAG: &str = "asgard.job_id";

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
    pub(crate) fn read(text: &str) -> Self {
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

fn not_found(run_id: &str) -> Error {
    Error::RunNotFound(run_id.to_owned())
}

impl Tracking {
    /// The run with this id, deleted ones included.
    pub async fn get_run(&self, run_id: &str) -> Result<Run, Error> {
        let mut conn = self.db.acquire().await?;
        runs::find(&mut conn, run_id)
            .await?
            .ok_or_else(|| not_found(run_id))
    }

    /// The runs that a job made, oldest first.
    pub async fn runs_of_job(&self, job_id: &str) -> Result<Vec<Run>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(runs::list_of_job(&mut conn, job_id).await?)
    }

    /// Ends those runs of a job that are still running, and tells how many.
    pub async fn end_runs_of_job(&self, job_id: &str, status: RunStatus) -> Result<u64, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let ended = runs::end_running_of_job(&mut tx, job_id, status, now).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Starts a run in an active experiment.
    pub async fn create_run(&self, new: NewRun) -> Result<Run, Error> {
        let experiment_id = experiment::parse_id(&new.experiment_id)?;
        let mut tx = self.db.begin().await?;
        let experiment = experiments::find(&mut tx, experiment_id)
            .await?
            .ok_or_else(|| Error::ExperimentNotFound {
                by: format!("id={experiment_id}"),
            })?;
        let run_id = id::random_hex()?;
        let mut run = Run {
            artifact_uri: format!("{}/{run_id}/artifacts", experiment.artifact_location),
            run_id,
            experiment_id: experiment.experiment_id,
            name: new.name.unwrap_or_default(),
            status: RunStatus::Running,
            lifecycle_stage: LifecycleStage::Active,
            user_id: new.user_id,
            start_time: new.start_time.unwrap_or_else(|| Timestamp::now().0),
            end_time: None,
            job_id: new.job_id,
            row: 0,
        };
        run.row = runs::insert(&mut tx, &run).await?;
        runs::set_tags(&mut tx, run.row, &new.tags).await?;
        tx.commit().await?;
        Ok(run)
    }

    /// Sets tags of an active run.
    pub async fn set_run_tags(&self, run_id: &str, tags: &[(String, String)]) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let run = runs::find(&mut tx, run_id)
            .await?
            .ok_or_else(|| not_found(run_id))?;
        runs::set_tags(&mut tx, run.row, tags).await?;
        Ok(tx.commit().await?)
    }
}
