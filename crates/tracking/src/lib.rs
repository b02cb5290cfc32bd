//! Experiments, runs, params, metrics, tags, datasets, logged models, traces and artifacts: what
//! an MLflow tracking server keeps, over MLflow's own routes.
//!
//! Invariants: a param never changes once it is set; the latest metric is the greatest by
//! (step, timestamp, value); a deleted run or experiment refuses writes; what a job makes carries
//! its job id, and a job writes nothing else.

mod artifact;
mod assessment;
mod batch;
mod config;
mod dataset;
mod error;
mod evaluation_dataset;
mod evaluation_record;
mod experiment;
mod external;
mod failed_uploads;
pub mod filter;
mod gather;
mod history;
mod http;
mod id;
pub mod import;
mod job_experiment;
mod key;
mod location;
mod logged_model;
mod metric;
mod otlp;
mod otlp_json;
mod owner;
pub mod page;
mod prompt_run;
mod record;
mod removal;
mod resend;
mod run;
mod scorer;
mod search;
mod span;
mod span_text;
mod store;
mod tag;
mod trace;
mod trace_correlation;
mod trace_link;
pub mod wire;

pub use artifact::{ArtifactEntry, ArtifactFile, Artifacts};
pub use batch::Batch;
pub use config::{ArtifactsConfig, Config, PresignedUrls};
pub use dataset::{Dataset, DatasetInput, Direction};
pub use error::Error;
pub use experiment::{Experiment, NewExperiment};
pub use external::{External, JobWrite, Kind, Stamp, is_missing, take};
pub use failed_uploads::FailedUpload;
pub use http::{download, routes};
pub use job_experiment::{JobExperiments, is_own};
pub use key::check_tag_key;
pub use location::Location;
pub use logged_model::{
    LoggedModel, LoggedModelMetric, LoggedModelStatus, NewLoggedModel, OrderBy, SearchLoggedModels,
};
pub use metric::{LoggedMetric, Metric};
pub use owner::{Owner, Question, RegisteredAt, check_owner};
pub use record::RunRecord;
pub use removal::{Deleted, Extent, Kind as DeletedKind, Removal};
pub use run::{JOB_TAG, LifecycleStage, NewRun, Run, RunStatus, RunUpdate};
pub use search::experiments::ExperimentSearch;
pub use search::runs::{RunSearch, View};
pub use span::Span;
pub use store::MIGRATIONS;
pub use trace::{Trace, TraceState};
pub use trace_link::LinkKind;
pub use wire::MlflowResult;

use db::Db;

use crate::failed_uploads::FailedUploads;
use crate::gather::Gathering;
use crate::resend::Resends;
use crate::store::new_runs::RunWithTags;
use crate::store::run_points::RunPoints;

/// The handle of tracking; cheap to clone.
#[derive(Clone)]
pub struct Tracking {
    db: Db,
    artifacts: Artifacts,
    registered_at: Option<RegisteredAt>,
    job_experiments: Option<JobExperiments>,
    external: Option<External>,
    failed_uploads: FailedUploads,
    point_writes: Gathering<RunPoints>,
    resends: Resends,
    run_writes: Gathering<RunWithTags>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Experiments that are not deleted.
    pub active_experiments: i64,
    /// Runs, deleted ones included.
    pub runs: i64,
}

impl Tracking {
    /// Tracking on a migrated database, with its artifacts in `artifacts`.
    pub fn new(db: Db, artifacts: Artifacts) -> Self {
        Self {
            db,
            artifacts,
            registered_at: None,
            job_experiments: None,
            external: None,
            failed_uploads: FailedUploads::default(),
            point_writes: Gathering::default(),
            resends: Resends::default(),
            run_writes: Gathering::default(),
        }
    }

    /// The same tracking, which asks here whose registered version an artifact belongs to, so
    /// that it stays as it is.
    #[must_use]
    pub fn with_registered(mut self, registered_at: RegisteredAt) -> Self {
        self.registered_at = Some(registered_at);
        self
    }

    /// The same tracking, which asks here for the experiments that uploads named. Without it a job
    /// changes only experiments that it made.
    #[must_use]
    pub fn with_job_experiments(mut self, job_experiments: JobExperiments) -> Self {
        self.job_experiments = Some(job_experiments);
        self
    }

    /// Tracking that an external MLflow server keeps.
    pub fn at(external: External, db: Db) -> Self {
        Self {
            db,
            artifacts: Artifacts::over(external.store()),
            registered_at: None,
            job_experiments: None,
            external: Some(external),
            failed_uploads: FailedUploads::default(),
            point_writes: Gathering::default(),
            resends: Resends::default(),
            run_writes: Gathering::default(),
        }
    }

    /// The uploads of a job that failed and were not made good, once: then they are forgotten.
    pub fn take_failed_uploads(&self, job_id: &str) -> Vec<FailedUpload> {
        self.failed_uploads.take(job_id)
    }

    /// The external MLflow server, when one keeps what this tracking shows.
    pub fn external(&self) -> Option<&External> {
        self.external.as_ref()
    }

    /// Whether artifacts can be stored, as far as can be told without storing any elsewhere.
    ///
    /// # Errors
    /// The store's reason.
    pub async fn check_artifacts(&self) -> Result<(), Error> {
        if self.external.is_none() {
            return self.artifacts.check_writable().await;
        }
        let nothing = Location::root().join("asgard-looks-whether-artifacts-are-served")?;
        self.artifacts.list(&nothing).await.map(|_| ())
    }

    /// The store of artifacts.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// How many experiments and runs there are.
    pub async fn counts(&self) -> Result<Counts, Error> {
        if let Some(external) = &self.external {
            return external.counts().await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(Counts {
            active_experiments: store::experiments::count_active(&mut conn).await?,
            runs: store::runs::count(&mut conn).await?,
        })
    }
}
