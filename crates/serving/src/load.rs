//! Bringing a model from its files to a running worker.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use environments::{Environment, Environments};
use registry::{ENVIRONMENT_TAG, ModelVersion, Registry};
use sandbox::Sandbox;
use tracking::Location;

use crate::config::Config;
use crate::copies::{Copies, Folder};
use crate::dispatch::{Queue, Rules, start};
use crate::engine::{Native, Proof, Proofs, Subject};
use crate::error::Error;
use crate::example;
use crate::fit::fit;
use crate::folder;
use crate::inputs::Inputs;
use crate::mlmodel::{self, MlModel};
use crate::model_server::ModelFolder;
use crate::requirements::{environment, no_environment};
use crate::signature::Signature;
use crate::variables::Variables;
use crate::worker::{Facts, Failure, Launch, Worker, write_program};

/// No MLmodel or requirements file is larger.
pub(crate) const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// How long the input example may take.
const WARM_UP: Duration = Duration::from_secs(20);

/// After how long without a call the worker of a natively answered model is stopped.
const REST_AFTER: Duration = Duration::from_secs(60);

/// Loads versions of the registry.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) registry: Registry,
    pub(crate) maker: Maker,
    /// The copies of models whose files are not on this machine.
    pub(crate) copies: Copies,
}

/// Makes running models of folders.
#[derive(Clone)]
pub(crate) struct Maker {
    /// Absent where nothing may be built: the environment is given then.
    pub(crate) environments: Option<Environments>,
    pub(crate) sandbox: Sandbox,
    pub(crate) config: Config,
    /// A folder for what loading writes.
    pub(crate) home: PathBuf,
    /// The variables of the models' code.
    pub(crate) variables: Variables,
    pub(crate) proofs: Proofs,
}

/// The files of a model on this machine, and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) folder: Folder,
    /// The environment that it was trained in, where that is known.
    pub(crate) environment: Option<Environment>,
}

/// What a process needs to serve a version.
pub(crate) struct Prepared {
    pub(crate) model: ModelFolder,
    /// What a proof would be about.
    subject: Option<Subject>,
}

impl Prepared {
    /// Whether it may be proven yet.
    pub(crate) fn lacks_proof(&self) -> bool {
        self.subject.is_some() && self.model.proof.is_none()
    }
}

/// A model version that answers.
#[derive(Debug)]
pub(crate) struct Model {
    /// What its MLmodel file says.
    pub(crate) described: MlModel,
    pub(crate) facts: Facts,
    /// Answers without Python what it has been proven on.
    pub(crate) native: Option<Arc<Native>>,
    pub(crate) queue: Queue,
    /// How long it took from the files to the first readiness.
    pub(crate) load_time: Duration,
    born: Instant,
    used_ms: AtomicU64,
}

impl Model {
    /// Remembers that it was wanted now.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(now, Ordering::Relaxed);
    }

    /// For how long nobody has wanted it.
    pub(crate) fn idle(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(used)
    }
}

impl Loader {
    /// Loads a version.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub(crate) async fn load(&self, version: &ModelVersion) -> Result<Model, Error> {
        let files = self.files(version).await?;
        self.maker.make(files).await
    }

    /// Brings the files of a version to this machine.
    pub(crate) async fn files(&self, version: &ModelVersion) -> Result<Files, Error> {
        let location = self.registry.location(version).await?;
        Ok(Files {
            name: version.name.clone(),
            version: version.version,
            folder: self.folder(version, &location).await?,
            environment: self.tagged_environment(version).await,
        })
    }

    /// The environment that a version was trained in, where that is known and there.
    pub(crate) async fn tagged_environment(&self, version: &ModelVersion) -> Option<Environment> {
        let key = version.tags.get(ENVIRONMENT_TAG)?;
        self.maker.environments.as_ref()?.find(key).await
    }

    /// The model's folder on this machine, where it may have to be brought to.
    async fn folder(&self, version: &ModelVersion, location: &Location) -> Result<Folder, Error> {
        let after = self.maker.config.load_timeout();
        let brought = folder::of(&self.registry, location, &self.copies);
        match tokio::time::timeout(after, brought).await {
            Ok(folder) => folder,
            Err(_) => Err(Error::LoadTimeout {
                model: label(&version.name, version.version),
                after,
            }),
        }
    }

    /// Has all on this machine that a process needs to serve a version.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub(crate) async fn prepare(&self, version: &ModelVersion) -> Result<Prepared, Error> {
        let files = self.files(version).await?;
        let described = describe(&files).await?;
        let environment = match &files.environment {
            Some(known) => known.clone(),
            None => self.maker.environment(&files, &described).await?,
        };
        let subject = self.maker.subject(&files, &described, &environment).await;
        let model = ModelFolder {
            name: files.name,
            version: files.version,
            folder: files.folder,
            environment: Some(environment),
            proof: None,
        };
        let prepared = Prepared { model, subject };
        Ok(self.with_proof(prepared))
    }

    /// The same with what is proven about it by now.
    pub(crate) fn with_proof(&self, mut prepared: Prepared) -> Prepared {
        let subject = prepared.subject.as_ref();
        prepared.model.proof = subject.and_then(|subject| self.maker.proofs.file(subject));
        prepared
    }
}

impl Maker {
    /// Starts the worker of a model, and proves its engine if there is one.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub(crate) async fn make(&self, files: Files) -> Result<Model, Error> {
        let began = Instant::now();
        let described = describe(&files).await?;
        let environment = match &files.environment {
            Some(known) => known.clone(),
            None => self.environment(&files, &described).await?,
        };
        let subject = self.subject(&files, &described, &environment).await;
        let launch = Launch {
            sandbox: self.sandbox.clone(),
            environment,
            folder: files.folder.clone(),
            program: self.program().await?,
            scratch: self.home.join("work"),
            memory_bytes: self.config.worker_memory_bytes(),
            flavors: flavors(&described),
            variables: self.variables.clone(),
            label: label(&files.name, files.version),
        };
        let proven = match &subject {
            Some(subject) => self.proofs.find(subject, &described.signature).await,
            None => None,
        };
        let (worker, facts, native) = match proven {
            Some((facts, native)) => (None, facts, Some(Arc::new(native))),
            None => self.started(&launch, &described, subject.as_ref()).await?,
        };
        let rules = Rules {
            queue_length: self.config.queue_length,
            batch_rows: if facts.row_by_row {
                self.config.batch_rows
            } else {
                0
            },
            load_timeout: self.config.load_timeout(),
            rest_after: native.is_some().then_some(REST_AFTER),
        };
        let load_time = began.elapsed();
        tracing::info!(
            model = %launch.label,
            class = %facts.class,
            flavor = %facts.flavor,
            native = native.is_some(),
            python_ms = worker.as_ref().map(|_| facts.load_ms as u64),
            total_ms = load_time.as_millis() as u64,
            "a model is ready"
        );
        Ok(Model {
            described,
            facts,
            native,
            queue: Queue::new(worker, launch, rules),
            load_time,
            born: Instant::now(),
            used_ms: AtomicU64::new(0),
        })
    }

    /// A worker that has answered once, and the engine if it is proven to do the same.
    async fn started(
        &self,
        launch: &Launch,
        described: &MlModel,
        subject: Option<&Subject>,
    ) -> Result<(Option<Worker>, Facts, Option<Arc<Native>>), Error> {
        let after = self.config.load_timeout();
        let (mut worker, facts) = start(launch, after).await?;
        if let Some(example) = input_example(&launch.folder, described).await?
            && !warm_up(&mut worker, example, &described.signature, &facts).await
        {
            (worker, _) = start(launch, after).await?;
        }
        if !self.config.native {
            return Ok((Some(worker), facts, None));
        }
        let native = match Native::prove(&mut worker, &described.signature, &facts.features).await {
            Proof::Proven(native, dump) => {
                if let Some(subject) = subject {
                    self.proofs.keep(subject, &facts, &native, dump).await;
                }
                Some(Arc::from(native))
            }
            Proof::Python(reason) => {
                tracing::debug!(model = %launch.label, reason, "Python answers for a model");
                if let Some(subject) = subject {
                    self.proofs.refute(subject, &reason).await;
                }
                None
            }
            Proof::Lost => {
                tracing::debug!(model = %launch.label, "comparing a model did not come to an end");
                (worker, _) = start(launch, after).await?;
                None
            }
        };
        Ok((Some(worker), facts, native))
    }

    /// What a proof of the model is about; `None` where nothing is to be proven.
    pub(crate) async fn subject(
        &self,
        files: &Files,
        described: &MlModel,
        environment: &Environment,
    ) -> Option<Subject> {
        match self.config.native {
            true => Subject::of(&files.folder, described, environment, &self.variables).await,
            false => None,
        }
    }

    /// An environment made of the model's own requirements.
    async fn environment(&self, files: &Files, described: &MlModel) -> Result<Environment, Error> {
        match &self.environments {
            Some(environments) => environment(environments, files, described).await,
            None => Err(no_environment(files)),
        }
    }

    async fn program(&self) -> Result<PathBuf, Error> {
        let folder: &Path = &self.home;
        write_program(folder).await.map_err(|source| Error::Io {
            attempt: format!("write the worker's program into {}", folder.display()),
            source,
        })
    }
}

/// What the MLmodel file of a model says.
pub(crate) async fn describe(files: &Files) -> Result<MlModel, Error> {
    let reason = match read(&files.folder, mlmodel::FILE).await? {
        Some(text) => match MlModel::parse(&text) {
            Ok(described) => return Ok(described),
            Err(wrong) => format!("its MLmodel file cannot be read: {wrong}"),
        },
        None => "it has no MLmodel file".to_owned(),
    };
    Err(Error::NotAModel {
        name: files.name.clone(),
        version: files.version,
        reason,
        files: folder::names(&files.folder).await,
    })
}

async fn input_example(folder: &Path, described: &MlModel) -> Result<Option<Inputs>, Error> {
    let Some(file) = &described.example else {
        return Ok(None);
    };
    let text = read(folder, file).await?;
    Ok(text.as_deref().and_then(example::parse))
}

/// Reads a file of a model. What leads out of its folder, or is larger than such files are, is
/// as good as absent.
pub(crate) async fn read(folder: &Path, file: &str) -> Result<Option<String>, Error> {
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let path = folder.join(file);
    let failed = |source| Error::Io {
        attempt: format!("read {}", path.display()),
        source,
    };
    match tokio::fs::symlink_metadata(&path).await {
        Ok(found) if inside && found.is_file() && found.len() <= FILE_BYTES => {}
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => return Ok(None),
    }
    let bytes = tokio::fs::read(&path).await.map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Has the model answer once, so that what Python does only on the first call is done; whether the
/// worker is still good. An example that the model does not take is no reason not to serve it.
async fn warm_up(
    worker: &mut Worker,
    example: Inputs,
    signature: &Signature,
    facts: &Facts,
) -> bool {
    let Ok(fitted) = fit(example, signature, &facts.features) else {
        return true;
    };
    let asked = worker.ask(&fitted.frame, false);
    let answered = tokio::time::timeout(WARM_UP, asked).await;
    !matches!(answered, Err(_) | Ok(Err(Failure::Died(_))))
}

/// A version, for logs and messages.
fn label(name: &str, version: i64) -> String {
    format!("{name:?} version {version}")
}

fn flavors(described: &MlModel) -> serde_json::Value {
    let flavors = described.flavors.clone();
    serde_json::Value::Object(flavors.into_iter().collect())
}
