//! Deployments: from a training script or a registered model to a running URL.
//!
//! A deployment is a row before it is an answer, and every phase can be taken up again from its
//! row: whatever dies, it ends deployed or failed. The rows say what should run; one loop on each
//! machine makes it so. The deployments of one model in one namespace share an endpoint, whose
//! address stays while they come and go.

mod check;
mod cluster;
mod config;
mod create;
mod deployment;
mod environment;
mod error;
mod http;
mod image;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
#[path = "kubernetes_absent.rs"]
mod kubernetes;
mod local;
mod log;
mod manage;
mod order;
mod pipeline;
mod place;
mod pull;
mod retention;
mod store;
mod told;
mod work;

pub use cluster::{Cluster, ServiceType};
pub use config::Config;
pub use deployment::{Autoscale, Deployment, Failure, Fault, State, Target, Timing};
pub use error::Error;
pub use http::openapi;
pub use image::{ImageMade, ImageOrder, ImageStep, MakeImage};
pub use pull::{FindLogin, LoginFound, PullLogin};
pub use store::MIGRATIONS;

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use web::Routes;

/// What deployments are built on.
#[derive(Clone)]
pub struct Parts {
    pub db: db::Db,
    pub jobs: jobs::Jobs,
    pub registry: registry::Registry,
    pub serving: serving::Serving,
    pub sandbox: sandbox::Sandbox,
    /// What the uploads of scripts are sealed with: they hold variables.
    pub seal: db::Seal,
    /// The `asgard` program, which is the model server too.
    pub program: PathBuf,
    /// Puts the server's door before a deployment's address.
    pub serve: Serve,
    /// Makes images; absent where no registry is configured.
    pub image: Option<MakeImage>,
    /// What nodes of the cluster pull these with; absent where no login is configured.
    pub pull: Option<PullLogin>,
}

/// Serves routes on a bound address until the token is cancelled, or says why it may not.
pub type Serve =
    Arc<dyn Fn(TcpListener, Routes, CancellationToken) -> Result<(), String> + Send + Sync>;

/// The deployments of one server; cheap to clone.
#[derive(Clone)]
pub struct Deployments {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    config: Config,
    /// This machine among those that share a database.
    machine: String,
    local: local::Local,
    /// Absent where no cluster is configured.
    kubernetes: Option<kubernetes::Kubernetes>,
    /// Rung when there may be something to do.
    arrived: Notify,
    /// Changes with every change of a deployment or its log.
    changes: watch::Sender<u64>,
    /// The deployments that this process leads to their end, each with what stops it.
    running: Mutex<HashMap<String, CancellationToken>>,
    /// Held from reading who has which share until that is so.
    sharing: tokio::sync::Mutex<()>,
    /// Held while the cluster is rid of deployments that are gone.
    clearing: Arc<tokio::sync::Mutex<place::Trouble>>,
    /// The live deployments in the cluster of which it was told that they cannot be opened.
    unopened: told::Told<String>,
}

impl Deployments {
    /// Deployments on these parts. Nothing runs before [`Deployments::work`].
    ///
    /// # Errors
    /// When the data directory cannot be written, or the settings cannot be meant.
    pub fn open(parts: Parts, config: Config, data_dir: &Path) -> Result<Self, Error> {
        if let Some(fault) = config.kubernetes.fault() {
            return Err(Error::Settings(fault));
        }
        let home = std::path::absolute(data_dir).map_err(|source| Error::Io {
            attempt: format!("find {}", data_dir.display()),
            source,
        })?;
        let home = home.join("deploy");
        let machine = local::machine(&home)?;
        let local = local::Local::new(&parts, &config, &home);
        let kubernetes = kubernetes::Kubernetes::new(&config, parts.pull.as_ref());
        Ok(Self {
            inner: Arc::new(Inner {
                parts,
                config,
                machine,
                local,
                kubernetes,
                arrived: Notify::new(),
                changes: watch::Sender::new(0),
                running: Mutex::default(),
                sharing: tokio::sync::Mutex::default(),
                clearing: Arc::default(),
                unopened: told::Told::default(),
            }),
        })
    }

    pub(crate) fn db(&self) -> &db::Db {
        &self.inner.parts.db
    }

    /// Tells those who follow deployments that something changed.
    pub(crate) fn changed(&self) {
        self.inner.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        let running = self.inner.running.lock();
        running.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes of deployments.
pub fn routes(deployments: Deployments) -> Routes {
    http::routes(deployments)
}
