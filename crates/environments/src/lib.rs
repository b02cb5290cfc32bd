//! Python environments: resolved, locked, built once, sealed and shared.
//!
//! An environment is named by what it is made of ([`Environment::key`]) and never changes once it
//! is complete. Its packages' code runs only in a sandbox, also while it is built. A list of
//! requirements that was resolved before needs no network again.

mod build;
mod bytecode;
mod config;
mod ensure;
mod environment;
mod error;
mod flight;
mod interpreter;
mod lock;
mod requirement;
mod retention;
mod store;
mod uv;
mod wheel;

use std::path::Path;
use std::sync::Arc;

pub use config::{Config, HostEnvironment};
pub use environment::{Environment, EnvironmentRequest, Step};
pub use error::Error;
pub use requirement::Requirement;
pub use retention::{Kept, Pruned};
use sandbox::{Mechanism, Sandbox};
use tokio::sync::{OnceCell, Semaphore};
pub use wheel::unpack_wheel;

use interpreter::Interpreters;
use uv::Uv;

/// The environments of one data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environments {
    config: Arc<Config>,
    sandbox: Sandbox,
    store: store::Store,
    flights: flight::Flights,
    builds: Arc<Semaphore>,
    uv: Arc<OnceCell<Uv>>,
    interpreters: Arc<OnceCell<Interpreters>>,
}

impl Environments {
    /// Opens the store in `data_dir` and removes what a crash left half-built. uv and Python are
    /// looked for when they are first needed.
    pub async fn open(config: &Config, data_dir: &Path, sandbox: Sandbox) -> Result<Self, Error> {
        let data_dir = std::path::absolute(data_dir).map_err(|source| Error::Store {
            attempt: "find",
            path: data_dir.to_owned(),
            source,
        })?;
        let opened = tokio::task::spawn_blocking(move || store::Store::open(&data_dir));
        let store = opened.await.map_err(|_| Error::stopping())??;
        Ok(Self {
            config: Arc::new(config.clone()),
            sandbox,
            store,
            flights: flight::Flights::default(),
            builds: Arc::new(Semaphore::new(config.max_builds.max(1))),
            uv: Arc::default(),
            interpreters: Arc::default(),
        })
    }

    /// Checks that each entry is one PEP 508 requirement from an index.
    pub fn parse_requirements(list: &[String]) -> Result<Vec<Requirement>, Error> {
        list.iter().map(|entry| Requirement::parse(entry)).collect()
    }

    /// An environment that was built before.
    pub async fn find(&self, key: &str) -> Option<Environment> {
        self.store.find(key)
    }

    /// What environments need of this machine, tried.
    pub async fn doctor(&self) -> Vec<Mechanism> {
        let python = match self.interpreter(None).await {
            Ok(found) => {
                let detail = format!("{} at {}", found.version_text(), found.executable.display());
                Mechanism::available("python", detail)
            }
            Err(error) => missing("python", &error),
        };
        let uv = match uv::find(&self.config, &self.store.tools).await {
            Ok(Some(uv)) => {
                let detail = format!("{} at {}", uv.version, uv.program.display());
                Mechanism::available("uv", detail)
            }
            Ok(None) => Mechanism::available(
                "uv",
                "not found on this machine; installed into the data directory when first needed",
            ),
            Err(error) => missing("uv", &error),
        };
        vec![python, uv]
    }
}

fn missing(name: &'static str, error: &Error) -> Mechanism {
    Mechanism::missing(name, error.to_string(), error.help().unwrap_or_default())
}
