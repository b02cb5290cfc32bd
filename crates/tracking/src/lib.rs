//! Experiments, runs, params, metrics, tags, datasets, logged models, traces and artifacts: what
//! an MLflow tracking server keeps, over MLflow's own routes.
//!
//! Invariants: a param never changes once it is set; the latest metric is the greatest by
//! (step, timestamp, value); a deleted run or experiment refuses writes; what a job makes carries
//! its job id, and a job writes nothing else.

mod artifact;
mod config;
mod error;
mod experiment;
pub mod filter;
mod http;
mod id;
mod location;
mod logged_model;
mod owner;
pub mod page;
mod run;
mod store;
pub mod wire;

pub use artifact::{ArtifactEntry, ArtifactFile, Artifacts};
pub use config::Config;
pub use error::Error;
pub use experiment::{Experiment, NewExperiment};
pub use http::{download, routes};
pub use location::Location;
pub use logged_model::{
    LoggedModel, LoggedModelMetric, LoggedModelStatus, NewLoggedModel, OrderBy, SearchLoggedModels,
};
pub use owner::{Owner, check_owner};
pub use run::{JOB_TAG, LifecycleStage, NewRun, Run, RunStatus};
pub use store::MIGRATIONS;
pub use wire::MlflowResult;

use db::Db;

/// The handle of tracking; cheap to clone.
#[derive(Clone)]
pub struct Tracking {
    db: Db,
    artifacts: Artifacts,
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
        Self { db, artifacts }
    }

    /// The store of artifacts.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// How many experiments and runs there are.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(Counts {
            active_experiments: store::experiments::count_active(&mut conn).await?,
            runs: store::runs::count(&mut conn).await?,
        })
    }
}
