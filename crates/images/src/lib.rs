//! Container images without a container engine: layers written here, put on a base that stays in
//! its registry, pushed by the OCI distribution protocol or written as an OCI layout.
//!
//! The same content is the same bytes: entries are sorted, times are 0, owners and modes are
//! normalised. So a layer is known by what is in it ([`environments::Environment::key`] above
//! all), and one that was made before is neither made nor sent again.

mod base;
mod bytecode;
mod compress;
mod config;
mod digest;
mod document;
mod error;
mod glibc;
mod image;
mod layer;
mod memory;
mod output;
mod push;
mod reference;
mod registry;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use compress::Compression;
pub use config::{Config, Secret};
pub use digest::Digest;
pub use error::Error;
pub use image::{Image, Model, PORT, Progress, Purpose, SERVER_PORT};
pub use push::Pushed;
pub use reference::{Reference, Repository, path_component};
use tokio::sync::OnceCell;

use memory::Memory;
use reference::canonical_host;
use registry::{Registries, login_registries};

/// The builder of images of one data directory. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    config: Arc<Config>,
    memory: Memory,
    registries: Registries,
    /// The `asgard` program, which every image holds.
    program: PathBuf,
    program_digest: Arc<OnceCell<String>>,
}

impl Images {
    /// A builder that keeps its layers below `data_dir`.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn open(config: &Config, data_dir: &Path, program: PathBuf) -> Result<Self, Error> {
        let home = std::path::absolute(data_dir).map_err(Error::file("find", data_dir))?;
        Ok(Self {
            config: Arc::new(config.clone()),
            memory: Memory::open(home.join("images"), config.compression)?,
            registries: Registries::new(config.clone())?,
            program,
            program_digest: Arc::default(),
        })
    }

    /// Where the image of a model's version is pushed unless something else is said: the model's
    /// repository of the configured registry.
    ///
    /// # Errors
    /// When no registry is configured, or its name is none.
    pub fn place(&self, model: &str, version: i64) -> Result<Reference, Error> {
        let Some(registry) = &self.config.registry else {
            return Err(Error::Config {
                message: "there is no registry to push images to".to_owned(),
                help: "set images.registry, such as registry.example.org/team".to_owned(),
            });
        };
        let registry = registry.trim_end_matches('/');
        // A lone host is one, also without a dot.
        let repository = match registry.split_once('/') {
            Some(_) => Repository::parse(&format!("{registry}/{}", path_component(model)))?,
            None => Repository {
                host: canonical_host(registry).to_owned(),
                path: path_component(model),
            },
        };
        Ok(Reference {
            repository,
            tag: Some(version.to_string()),
            digest: None,
        })
    }

    /// What names of images begin with that [`Images::login`] is for; none where the settings
    /// have no credentials for the configured registry.
    pub fn login_registries(&self) -> Vec<String> {
        login_registries(&self.config)
    }

    /// What others may pull from the configured registry with, valid now: the text of a file as
    /// `docker login` writes it. An ECR's ends within half a day.
    ///
    /// # Errors
    /// When the credentials cannot be read, or ECR gives none.
    pub async fn login(&self) -> Result<Option<Secret>, Error> {
        self.registries.login().await
    }
}
