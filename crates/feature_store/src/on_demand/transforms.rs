//! The workers of on-demand feature views: one for each function that was asked for of late.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use environments::{Environment, EnvironmentRequest, Environments};
use sandbox::Sandbox;
use serde_json::json;
use tokio::sync::OnceCell;

use super::worker::{Failure, Launch, Worker};
use super::{Function, OnDemandView};
use crate::config::OnDemandConfig;
use crate::dtype::Dtype;
use crate::error::Error;

/// What every function finds. Feast itself does not go with a newer pandas.
const PACKAGES: [&str; 4] = ["dill", "numpy", "pandas<3", "pyarrow"];

/// How long the imports of a worker may take.
const START: Duration = Duration::from_secs(60);

/// What runs functions; cheap to clone.
#[derive(Clone)]
pub(crate) struct Transforms(Arc<Inner>);

struct Inner {
    python: Option<(Environments, Sandbox)>,
    config: OnDemandConfig,
    home: PathBuf,
    environment: OnceCell<Environment>,
    slots: Mutex<HashMap<Arc<Function>, Slot>>,
}

/// The place of a function's worker: whoever has the lock may ask it.
#[derive(Clone)]
struct Slot {
    worker: Arc<tokio::sync::Mutex<Option<Worker>>>,
    used: Instant,
}

impl Transforms {
    pub(crate) fn new(
        python: Option<(Environments, Sandbox)>,
        config: &OnDemandConfig,
        data_dir: &Path,
    ) -> Self {
        Self(Arc::new(Inner {
            python,
            config: config.clone(),
            home: data_dir.join("transforms"),
            environment: OnceCell::new(),
            slots: Mutex::default(),
        }))
    }

    /// Computes features of rows, one column for each.
    ///
    /// # Errors
    /// What the function raised; or that it took too long, or too much memory.
    pub(crate) async fn run(
        &self,
        view: &OnDemandView,
        features: &[(String, Dtype)],
        rows: RecordBatch,
    ) -> Result<RecordBatch, Error> {
        let launch = self.launch().await?;
        let slot = self.slot(&view.function);
        let within = Duration::from_millis(self.0.config.timeout_ms);
        let late = |_| self.too_long(view);
        let mut place = tokio::time::timeout(within, slot.worker.lock())
            .await
            .map_err(late)?;
        // Out of its place while it is asked: a worker that was left in the middle is dropped.
        let mut worker = match place.take() {
            Some(worker) => worker,
            None => {
                let started = Worker::start(&launch, &view.function);
                let started = tokio::time::timeout(START, started).await;
                let started = started.map_err(|_| self.too_long(view))?;
                started.map_err(|failure| failed(view, failure))?
            }
        };
        let named: Vec<_> = features
            .iter()
            .map(|(name, dtype)| json!([name, dtype.to_string()]))
            .collect();
        let asked = json!({ "view": view.name, "features": named });
        let answer = tokio::time::timeout(within, worker.ask(&asked, rows)).await;
        let answer = answer.map_err(late)?;
        if !matches!(answer, Err(Failure::Died(_))) {
            *place = Some(worker);
        }
        answer.map_err(|failure| failed(view, failure))
    }

    /// Has the environment of functions built, so that the first read need not wait for it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub(crate) async fn prepare(&self) -> Result<(), Error> {
        match &self.0.python {
            Some((environments, _)) => self.environment(environments).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Stops the workers that nobody asked for long.
    pub(crate) fn rest(&self) {
        let idle = Duration::from_secs(self.0.config.idle_timeout_s);
        self.slots().retain(|_, slot| slot.used.elapsed() < idle);
    }

    /// Stops all workers.
    pub(crate) fn stop(&self) {
        self.slots().clear();
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Arc<Function>, Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, function: &Function) -> Slot {
        let mut slots = self.slots();
        let now = Instant::now();
        if let Some(slot) = slots.get_mut(function) {
            slot.used = now;
            return slot.clone();
        }
        if slots.len() >= self.0.config.max_workers.max(1) {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used);
            if let Some(oldest) = oldest.map(|(function, _)| function.clone()) {
                slots.remove(&oldest);
            }
        }
        let slot = Slot {
            worker: Arc::default(),
            used: now,
        };
        slots.insert(Arc::new(function.clone()), slot.clone());
        slot
    }

    async fn launch(&self) -> Result<Launch, Error> {
        let Some((environments, sandbox)) = &self.0.python else {
            return Err(Error::Unsupported(
                "on-demand feature views are not computed here: this server has no Python sandbox"
                    .to_owned(),
            ));
        };
        Ok(Launch {
            environment: self.environment(environments).await?.clone(),
            sandbox: sandbox.clone(),
            home: self.0.home.clone(),
            memory_bytes: self.0.config.memory_bytes,
        })
    }

    async fn environment(&self, environments: &Environments) -> Result<&Environment, Error> {
        let base = PACKAGES.iter().map(|package| (*package).to_owned());
        let request = EnvironmentRequest {
            requirements: base.chain(self.0.config.requirements.clone()).collect(),
            python: self.0.config.python.clone(),
            probe: ["pandas", "pyarrow", "dill"].map(str::to_owned).to_vec(),
        };
        let progress = |step| {
            tracing::debug!(
                ?step,
                "preparing the environment of on-demand feature views"
            );
        };
        let made = self.0.environment.get_or_try_init(|| async {
            let made = environments.ensure(&request, &progress).await;
            made.map_err(|source| Error::Environment(Box::new(source)))
        });
        made.await
    }

    fn too_long(&self, view: &OnDemandView) -> Error {
        let seconds = self.0.config.timeout_ms as f64 / 1000.0;
        Error::Transform {
            view: view.name.clone(),
            what: format!("its function did not end within {seconds} s and was stopped"),
            help: Some(
                "ask for fewer rows, make it faster, or raise feature_store.on_demand.timeout_ms",
            ),
        }
    }
}

fn failed(view: &OnDemandView, failure: Failure) -> Error {
    let (what, help) = match failure {
        Failure::Refused(error) => return error,
        Failure::Raised(what) if what.starts_with("ModuleNotFoundError") => (
            what,
            Some("add the package to feature_store.on_demand.requirements in asgard.toml"),
        ),
        Failure::Raised(what) if what.starts_with("NameError") => (
            what,
            Some(
                "import inside of the function what it uses, or apply the view with the Python that the server runs functions in (feature_store.on_demand.python)",
            ),
        ),
        Failure::Raised(what) if what.starts_with("MemoryError") => (what, Some(MEMORY)),
        Failure::Raised(what) => (what, None),
        Failure::Died(how) if how.starts_with("ran out of memory") => {
            (format!("its function {how}"), Some(MEMORY))
        }
        Failure::Died(how) => (format!("the worker of its function {how}"), None),
    };
    Error::Transform {
        view: view.name.clone(),
        what,
        help,
    }
}

const MEMORY: &str = "ask for fewer rows, or raise feature_store.on_demand.memory_bytes";
