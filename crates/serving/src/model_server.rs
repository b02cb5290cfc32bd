//! One model out of a folder, without a registry: what a deployed model's process answers with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use environments::{Environment, Environments};
use sandbox::Sandbox;

use crate::answer::count;
use crate::config::Config;
use crate::copies::Folder;
use crate::engine::{Proofs, Subject};
use crate::error::Error;
use crate::inference::{Inference, Prediction};
use crate::load::{Files, Maker, Model, describe};
use crate::requirements;
use crate::variables::Variables;

/// A model's folder, and under which name and version it answers.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    pub name: String,
    pub version: i64,
    /// Holds the MLmodel file.
    pub folder: Folder,
    /// The Python environment to load it in; absent: one made of its own requirements.
    pub environment: Option<Environment>,
    /// What was proven about it by the process that hands it over: with it the model may answer
    /// before its worker has been started.
    pub proof: Option<PathBuf>,
}

impl ModelFolder {
    /// Has an environment made of the model's own requirements, unless it has one.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub async fn with_environment(mut self, environments: &Environments) -> Result<Self, Error> {
        if self.environment.is_none() {
            let files = self.files();
            let described = describe(&files).await?;
            self.environment =
                Some(requirements::environment(environments, &files, &described).await?);
        }
        Ok(self)
    }

    /// The same with what the server of a data directory has proven about it, if it has.
    ///
    /// # Errors
    /// When the folder is no model.
    pub async fn with_proof(mut self, data_dir: &Path) -> Result<Self, Error> {
        if let Some(environment) = &self.environment {
            let described = describe(&self.files()).await?;
            let none = Variables::default();
            let subject = Subject::of(&self.folder, &described, environment, &none).await;
            let proofs = Proofs::of_server(data_dir);
            self.proof = subject.and_then(|subject| proofs.file(&subject));
        }
        Ok(self)
    }

    fn files(&self) -> Files {
        Files {
            name: self.name.clone(),
            version: self.version,
            folder: self.folder.clone(),
            environment: None,
        }
    }
}

/// A loaded model that answers until it is dropped; cheap to clone.
#[derive(Clone)]
pub struct ModelServer(Arc<Inner>);

struct Inner {
    name: String,
    version: i64,
    model: Model,
    config: Config,
    draining: AtomicBool,
}

impl ModelServer {
    /// Loads the model of a folder, whose code finds `variables` in its environment. `home` is a
    /// folder for what that writes; without `environments` nothing is built, and the folder's
    /// environment must be given.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub async fn load(
        model: ModelFolder,
        variables: Variables,
        environments: Option<Environments>,
        sandbox: Sandbox,
        config: Config,
        home: PathBuf,
    ) -> Result<Self, Error> {
        let maker = Maker {
            environments,
            sandbox,
            config: config.clone(),
            proofs: Proofs::new(home.join("proofs"), model.proof),
            home,
            variables,
        };
        let (name, version) = (model.name.clone(), model.version);
        let files = Files {
            name: model.name,
            version,
            folder: model.folder,
            environment: model.environment,
        };
        Ok(Self(Arc::new(Inner {
            name,
            version,
            model: maker.make(files).await?,
            config,
            draining: AtomicBool::new(false),
        })))
    }

    /// Asks the model.
    ///
    /// # Errors
    /// When another model or version is asked for, the columns do not fit, or its code fails.
    pub async fn predict(&self, inference: Inference) -> Result<Prediction, Error> {
        let began = Instant::now();
        let result = self.answer(inference).await;
        count(self.0.name.clone(), &result, began.elapsed());
        result
    }

    async fn answer(&self, inference: Inference) -> Result<Prediction, Error> {
        let Inner { name, version, .. } = &*self.0;
        if inference.model_name != *name {
            return Err(Error::ModelNotFound {
                name: inference.model_name,
                existing: vec![name.clone()],
            });
        }
        if let Some(wanted) = inference.model_version
            && wanted != version.to_string()
        {
            return Err(Error::OtherVersion {
                name: name.clone(),
                version: wanted,
                served: *version,
            });
        }
        let wanted = inference.return_probabilities;
        let timeout = self.0.config.request_timeout();
        let answered = self
            .0
            .model
            .answer(inference.inputs, wanted, timeout)
            .await?;
        Ok(answered.of(name.clone(), *version))
    }

    /// Says in its health that no more requests should come, for a process that is about to stop.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The model's version.
    pub fn version(&self) -> i64 {
        self.0.version
    }

    pub(crate) fn model(&self) -> &Model {
        &self.0.model
    }
}
