//! What is stored and told of an attempt: in the job's row, its runs and its log.

use tracking::RunStatus;

use super::{Attempt, End};
use crate::error::Error;
use crate::failure::{self, Failure};
use crate::job::{Phase, Reason};
use crate::outcome::{self, Outcome};
use crate::store::queue::Progress;
use crate::{store, token};

impl Attempt {
    /// Makes what came of the script that of the job, and tells it.
    pub(super) async fn take_over(&mut self, outcome: Outcome) {
        for note in &outcome.notes {
            self.log.line(note).await;
        }
        if let Some(run_id) = &outcome.run_id {
            self.log.line(format!("Run ID: {run_id}")).await;
        }
        if let Some(version) = &outcome.version {
            self.log
                .line(format!(
                    "✓ Model registered: {} version {}",
                    version.name, version.version
                ))
                .await;
        }
        for warning in &outcome.warnings {
            self.log.line(format!("⚠ {}", warning.told())).await;
        }
        self.tell_failed_uploads().await;
        self.job.run_id = outcome.run_id;
        self.job.model_version = outcome.version.as_ref().map(|v| v.version.to_string());
        self.job.warnings.extend(outcome.warnings);
        let facts = &mut self.job.facts;
        facts.model_uri = outcome
            .version
            .map(|v| format!("models:/{}/{}", v.name, v.version));
        facts.run_ids = outcome.run_ids;
        facts.model_ids = outcome.model_ids;
        facts.run_experiment = outcome.other_experiment;
    }

    /// A script may have caught the error of an upload, or lost it in a thread.
    async fn tell_failed_uploads(&mut self) {
        let tracking = &self.jobs.inner.parts.tracking;
        let failed = tracking.take_failed_uploads(&self.job.job_id);
        if failed.is_empty() {
            return;
        }
        let warning = failure::artifacts_not_stored(&failed);
        self.log.line(format!("⚠ {}", warning.told())).await;
        self.job.warnings.push(warning);
    }

    /// Ends the runs of a job that failed and says in the log why it did.
    pub(super) async fn close(&mut self, failure: &Failure) {
        let tracking = &self.jobs.inner.parts.tracking;
        let status = if failure.reason == Reason::Cancelled {
            RunStatus::Killed
        } else {
            RunStatus::Failed
        };
        match outcome::close(tracking, &self.job, status).await {
            Ok(outcome) => {
                if let Some(run_id) = &outcome.run_id
                    && self.job.run_id.is_none()
                {
                    self.log.line(format!("Run ID: {run_id}")).await;
                }
                self.job.run_id = self.job.run_id.take().or(outcome.run_id);
                self.job.facts.run_ids = outcome.run_ids;
                self.job.facts.model_ids = outcome.model_ids;
            }
            Err(error) => tracing::error!(%error, "ending the runs of a failed job failed"),
        }
        self.tell_failed_uploads().await;
        self.log.line(format!("✗ {}", failure.problem.told())).await;
        let phase = self.job.phase.unwrap_or(Phase::Preparing);
        if let Err(error) = self.save(phase).await {
            tracing::warn!(%error, "storing what a failed job left failed");
        }
    }

    /// Gives the job back, for the server that starts next.
    pub(super) async fn hand_back(&mut self) -> End {
        let tracking = &self.jobs.inner.parts.tracking;
        let killed = tracking
            .end_runs_of_job(&self.job.job_id, RunStatus::Killed)
            .await;
        if let Err(error) = killed {
            tracing::warn!(%error, "ending the runs of an interrupted job failed");
        }
        self.log
            .line("The server is stopping: the job starts again when it is back")
            .await;
        End::Released
    }

    /// Begins a phase.
    pub(super) async fn enter(&mut self, phase: Phase) -> Result<(), Error> {
        self.job.phase = Some(phase);
        self.save(phase).await
    }

    /// Stores what is known of the job.
    pub(super) async fn save(&self, phase: Phase) -> Result<(), Error> {
        let progress = Progress {
            phase,
            script_started_at: self.job.script_started_at,
            run_id: self.job.run_id.as_deref(),
            model_version: self.job.model_version.as_deref(),
            warnings: &self.job.warnings,
            facts: &self.job.facts,
        };
        let mut tx = self.jobs.db().begin().await?;
        let owner = &self.jobs.inner.owner;
        let ours = store::queue::update(&mut tx, &self.job.job_id, owner, &progress).await?;
        tx.commit().await?;
        self.jobs.signals().notify(&self.job.job_id);
        if ours {
            Ok(())
        } else {
            Err(Error::NotOurs(self.job.job_id.clone()))
        }
    }

    /// Makes a token the job's own.
    pub(super) async fn set_token(&self, token: &str) -> Result<(), Error> {
        let owner = &self.jobs.inner.owner;
        let mut tx = self.jobs.db().begin().await?;
        let hash = token::hash(token);
        let ours = store::queue::set_token(&mut tx, &self.job.job_id, owner, &hash).await?;
        tx.commit().await?;
        if ours {
            Ok(())
        } else {
            Err(Error::NotOurs(self.job.job_id.clone()))
        }
    }
}
