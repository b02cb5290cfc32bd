//! Python environments: resolved, locked, built once, sealed and shared.
//!
//! An environment is named by what it is made of ([`Environment::key`]) and never changes once it
//! is complete. Its packages' code runs only in a sandbox, also while it is built.

mod config;
mod environment;
mod error;
mod requirement;

use std::path::Path;

pub use config::{Config, HostEnvironment};
pub use environment::{Environment, EnvironmentRequest, Step};
pub use error::Error;
pub use requirement::Requirement;
use sandbox::{Mechanism, Sandbox};

/// The environments of one data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environments {
    sandbox: Sandbox,
}

impl Environments {
    /// Opens the store in `data_dir` and removes what a crash left half-built.
    pub async fn open(config: &Config, data_dir: &Path, sandbox: Sandbox) -> Result<Self, Error> {
        let _ = (config, data_dir);
        Ok(Self { sandbox })
    }

    /// Checks that each entry is one PEP 508 requirement from an index.
    pub fn parse_requirements(list: &[String]) -> Result<Vec<Requirement>, Error> {
        let _ = list;
        Ok(Vec::new())
    }

    /// Gives the environment of a request, building it if nobody has yet.
    pub async fn ensure(
        &self,
        request: &EnvironmentRequest,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Environment, Error> {
        let _ = (request, progress, &self.sandbox);
        Err(Error::Uv {
            reason: "cannot be used yet".to_owned(),
            help: String::new(),
        })
    }

    /// An environment that was built before.
    pub async fn find(&self, key: &str) -> Option<Environment> {
        let _ = key;
        None
    }

    /// What environments need of this machine, tried.
    pub async fn doctor(&self) -> Vec<Mechanism> {
        Vec::new()
    }
}
