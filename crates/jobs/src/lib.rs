//! Training jobs: a durable queue, the runner that carries a script through its phases, its log,
//! and what is made of its result.
//!
//! A job is a row before it is an answer; its variables lie in it sealed. Whoever holds its lease
//! runs it; every change names the holder, so each job reaches exactly one final state whatever
//! dies. Runs, logged models and versions belong to a job because they came through its own door
//! or token.

mod attempt;
mod config;
mod data_dirs;
mod error;
mod execution;
mod failure;
mod http;
mod imports;
mod inline_metadata;
mod job;
mod launch;
mod listing;
mod log;
mod memory;
mod outcome;
mod pickle;
mod queue;
mod recovery;
mod requirements;
mod retention;
mod script;
mod sealed;
mod signals;
mod store;
mod submission;
mod telemetry;
mod token;
mod told;
mod variables;
mod warm;
mod work;

pub use config::{Config, Network};
pub use error::Error;
pub use http::openapi;
pub use job::{Facts, Job, JobRequest, Phase, Problem, Reason, Status};
pub use listing::{Filter, Page};
pub use log::{Chunk, Excerpt, Stream, cover_text as cover_secrets};
pub use memory::parse as parse_memory;
pub use script::ScriptEncoding;
pub use store::MIGRATIONS;
pub use submission::Submission;
pub use variables::{
    check as check_variables, redacted as redact_variables, secrets as find_secrets,
};

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What jobs are built on.
#[derive(Clone)]
pub struct Parts {
    pub db: db::Db,
    pub tracking: tracking::Tracking,
    pub registry: registry::Registry,
    pub environments: environments::Environments,
    pub sandbox: sandbox::Sandbox,
    /// What variables are sealed with.
    pub seal: db::Seal,
    pub door: JobDoor,
}

/// How a job reaches the server; the binary knows.
#[derive(Clone)]
pub struct JobDoor {
    /// A listener that lets nobody in without a token, as `http://127.0.0.1:PORT`, for sandboxes
    /// without a network of their own.
    pub url: String,
    /// Serves the routes on a job's own listener, every caller being that job, until the token is
    /// cancelled.
    pub serve: Arc<dyn Fn(TcpListener, String, CancellationToken) + Send + Sync>,
    /// Absent when the server has no feature store.
    pub feast_repo: Option<FeastRepo>,
}

/// Writes the `feature_store.yaml` of a Feast repository over the server at `HOST:PORT`; the
/// second is the variable that holds the token to send, if one is needed.
pub type FeastRepo = Arc<dyn Fn(&str, Option<&str>) -> Option<String> + Send + Sync>;

/// The training jobs of one server; cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    config: Config,
    data_dir: PathBuf,
    /// This process among those that share a database.
    owner: String,
    signals: signals::Signals,
    /// Rung when a job may be waiting.
    arrived: Notify,
    /// The jobs that this process runs, each with what stops it.
    running: Mutex<HashMap<String, CancellationToken>>,
}

/// Finds the uploads of jobs; the registry asks, before there are [`Jobs`].
pub fn job_uploads(db: db::Db) -> registry::JobUploads {
    Arc::new(move |job_id| {
        let db = db.clone();
        Box::pin(async move {
            let mut conn = db.acquire().await?;
            store::jobs::find_upload(&mut conn, &job_id).await
        })
    })
}

/// Finds the experiments that the uploads of jobs named; tracking asks, before there are [`Jobs`].
pub fn job_experiments(db: db::Db) -> tracking::JobExperiments {
    Arc::new(move |job_id| {
        let db = db.clone();
        Box::pin(async move {
            let mut conn = db.acquire().await?;
            store::jobs::find_experiment_name(&mut conn, &job_id).await
        })
    })
}

impl Jobs {
    /// Jobs on these parts. Nothing runs before [`Jobs::work`].
    pub fn new(parts: Parts, config: Config, data_dir: &Path) -> Self {
        Self {
            inner: Arc::new(Inner {
                parts,
                config,
                data_dir: data_dir.to_owned(),
                owner: ulid::Ulid::new().to_string().to_lowercase(),
                signals: signals::Signals::default(),
                arrived: Notify::new(),
                running: Mutex::default(),
            }),
        }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn db(&self) -> &db::Db {
        &self.inner.parts.db
    }

    pub(crate) fn signals(&self) -> &signals::Signals {
        &self.inner.signals
    }
}

/// The routes of jobs.
pub fn routes(jobs: Jobs) -> web::Routes {
    http::routes(jobs)
}
