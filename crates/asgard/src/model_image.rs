//! The image of a registered version, made and pushed for whoever deploys it.

use std::collections::BTreeMap;
use std::sync::Arc;

use deploy::{Failure, Fault, FindLogin, ImageStep, MakeImage, PullLogin};
use images::{Images, Model, Progress, Purpose};
use registry::ModelVersion;
use serving::{Serving, Variables};
use tracking::Tracking;

use crate::failure::chain;

/// The tag that MLflow's client gives a run that was started in a clone of git.
const COMMIT_TAG: &str = "mlflow.source.git.commit";

/// Makes the images of registered versions; cheap to clone.
#[derive(Clone)]
pub struct ModelImages {
    pub images: Images,
    pub serving: Serving,
    pub tracking: Tracking,
}

/// Why there is no image of a version.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Model(#[from] serving::Error),
    #[error("{name:?} version {version} has no Python environment")]
    NoEnvironment { name: String, version: i64 },
    #[error(transparent)]
    Image(#[from] images::Error),
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Model(error) => error.help(),
            Self::NoEnvironment { .. } => {
                Some("log the model with its requirements, and register it again".to_owned())
            }
            Self::Image(error) => error.help().map(str::to_owned),
        }
    }

    /// Whether the registry, or the way to it, is at fault.
    pub fn is_registry(&self) -> bool {
        matches!(self, Self::Image(error) if error.is_registry())
    }
}

impl ModelImages {
    /// What deployments have their images made by.
    pub fn maker(self) -> MakeImage {
        Arc::new(move |order| {
            let images = self.clone();
            Box::pin(async move {
                // When nobody is left to be told, the image is made all the same.
                let tell = |step| {
                    let _ = order.steps.send(step);
                };
                let line = |line| tell(ImageStep::Line(line));
                let pushing = || tell(ImageStep::Pushing);
                let made = images.push(&order.version, &line, &pushing).await;
                made.map_err(|error| failure(&error))
            })
        })
    }

    /// What the nodes of a cluster pull these images with, where there is a login for their registry.
    pub fn pull_login(&self) -> Option<PullLogin> {
        let registries = self.images.login_registries();
        let images = self.images.clone();
        let find: FindLogin = Arc::new(move || {
            let images = images.clone();
            Box::pin(async move {
                let login = images.login().await.map_err(|error| no_login(&error))?;
                Ok(login.map(|login| login.expose().to_owned()))
            })
        });
        (!registries.is_empty()).then_some(PullLogin { registries, find })
    }

    /// Builds the image of a version and pushes it to the configured registry: its name by digest.
    /// `pushing` is called when it is built.
    ///
    /// # Errors
    /// What is missing or refused, in words for whoever deploys.
    pub async fn push(
        &self,
        version: &ModelVersion,
        progress: Progress<'_>,
        pushing: &(dyn Fn() + Send + Sync),
    ) -> Result<String, Error> {
        let to = self.images.place(&version.name, version.version)?;
        let variables = Variables::default();
        let prepared = self.serving.prepare(version, &variables).await?;
        let environment = prepared.environment.ok_or_else(|| Error::NoEnvironment {
            name: version.name.clone(),
            version: version.version,
        })?;
        progress(format!(
            "✓ environment of {} packages, model files",
            environment.packages.len()
        ));
        let model = Model {
            name: prepared.name,
            version: prepared.version,
            folder: prepared.folder.to_path_buf(),
            environment,
            proof: prepared.proof,
            origin: self.origin(version).await,
        };
        let purpose = Purpose::Model(Box::new(model));
        let image = self.images.build(&purpose, None, progress).await?;
        pushing();
        Ok(self.images.push(&image, &to, progress).await?.reference)
    }

    /// The run, job and commit that a version comes from, by label.
    async fn origin(&self, version: &ModelVersion) -> BTreeMap<String, String> {
        let mut origin = BTreeMap::new();
        let ids = [
            ("asgard.run_id", &version.run_id),
            ("asgard.job_id", &version.job_id),
        ];
        for (label, id) in ids {
            if let Some(id) = id {
                origin.insert(label.to_owned(), id.clone());
            }
        }
        if let Some(run_id) = &version.run_id {
            match self.tracking.get_run_record(run_id).await {
                Ok(run) => {
                    let mut tags = run.tags.iter();
                    if let Some((_, commit)) = tags.find(|(key, _)| key == COMMIT_TAG) {
                        origin.insert("asgard.git_commit".to_owned(), commit.clone());
                    }
                }
                // A version outlives its run; its image needs no commit.
                Err(error) => tracing::debug!(%error, run_id, "the run of a version is not there"),
            }
        }
        origin
    }
}

/// Why there is no image, for the deployment that needs it.
fn failure(error: &Error) -> Failure {
    let fault = match error {
        Error::Model(error) if error.code().status().is_client_error() => Fault::Script,
        Error::NoEnvironment { .. } => Fault::Script,
        _ if error.is_registry() => Fault::Outside,
        _ => Fault::Server,
    };
    let (code, title) = match error {
        Error::Image(_) => ("image_failed", "Image cannot be made"),
        _ => ("model_not_servable", "Model cannot be served"),
    };
    Failure::new(fault, code, title, chain(error), error.help())
}

/// Why nodes get no login.
fn no_login(error: &images::Error) -> Failure {
    let fault = match error.is_registry() {
        true => Fault::Outside,
        false => Fault::Server,
    };
    let message = format!("nodes cannot be let into the registry: {}", chain(error));
    let help = error
        .help()
        .unwrap_or("see deploy.kubernetes.pull_secret and make_pull_secret");
    Failure::new(
        fault,
        "pull_login",
        "No login for the nodes",
        message,
        Some(help.to_owned()),
    )
}
