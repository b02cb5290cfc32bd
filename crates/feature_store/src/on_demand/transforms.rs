//! The workers of on-demand feature views: one for each function that was asked for of late.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use environments::{Environment, EnvironmentRequest, Environments};
use sandbox::Sandbox;
use serde_json::json;
use tokio::sync::{OnceCell, OwnedMutexGuard, Semaphore, SemaphorePermit};

use super::folder;
use super::refusal::{busy, failed, not_started, stopping, too_long};
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
    /// As many as there may be workers at work.
    at_work: Semaphore,
    workers: Mutex<Workers>,
}

/// Together with those at work the idle ones are never more than there may be workers.
#[derive(Default)]
struct Workers {
    /// Whoever has a function's lock may ask its worker.
    queues: HashMap<Arc<Function>, Arc<tokio::sync::Mutex<()>>>,
    idle: Vec<Idle>,
}

/// Who may ask a function's worker, or start one.
struct Turn<'t> {
    function: Arc<Function>,
    /// Given back before the function is free for others.
    _permit: SemaphorePermit<'t>,
    _alone: OwnedMutexGuard<()>,
}

struct Idle {
    function: Arc<Function>,
    worker: Worker,
    since: Instant,
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
            at_work: Semaphore::new(config.max_workers.max(1)),
            workers: Mutex::default(),
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
        let within = Duration::from_millis(self.0.config.timeout_ms);
        // As long as the call before this one may take.
        let turn = self.turn(view, START + within).await?;
        // Not among the idle while it is asked: a worker that was left in the middle is dropped.
        let mut worker = match self.idle_or_room(&turn.function) {
            Some(worker) => worker,
            None => {
                let started = Worker::start(&launch, &view.function);
                let started = tokio::time::timeout(START, started).await;
                let started = started.map_err(|_| not_started(view, START))?;
                started.map_err(|failure| failed(view, failure))?
            }
        };
        let named: Vec<_> = features
            .iter()
            .map(|(name, dtype)| json!([name, dtype.to_string()]))
            .collect();
        let asked = json!({ "view": view.name, "features": named });
        let answer = tokio::time::timeout(within, worker.ask(&asked, rows)).await;
        let answer = answer.map_err(|_| too_long(view, within))?;
        if !matches!(answer, Err(Failure::Died(_))) {
            self.rest_after(turn, worker);
        }
        answer.map_err(|failure| failed(view, failure))
    }

    /// Waits until the view's function may be asked, which nobody else does then.
    ///
    /// # Errors
    /// When that does not come within `patience`.
    async fn turn(&self, view: &OnDemandView, patience: Duration) -> Result<Turn<'_>, Error> {
        let (function, queue) = self.queue(&view.function);
        let turn = async {
            let alone = queue.lock_owned().await;
            (alone, self.0.at_work.acquire().await)
        };
        let turn = tokio::time::timeout(patience, turn).await;
        let (alone, permit) = turn.map_err(|_| busy(view))?;
        Ok(Turn {
            _permit: permit.map_err(|_| stopping(view))?,
            function,
            _alone: alone,
        })
    }

    /// Removes what the workers of a killed server have left.
    pub(crate) async fn remove_left(&self) {
        let home = self.0.home.clone();
        let removed = tokio::task::spawn_blocking(move || folder::remove_left(&home)).await;
        match removed.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
            Ok(0) => {}
            Ok(folders) => tracing::info!(
                folders,
                "what workers of on-demand feature views had left is removed"
            ),
            Err(error) => tracing::warn!(
                %error,
                "removing what workers of on-demand feature views have left failed"
            ),
        }
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
        let longest = Duration::from_secs(self.0.config.idle_timeout_s);
        let mut workers = self.workers();
        workers.idle.retain(|idle| idle.since.elapsed() < longest);
        // Who waits in a queue, or is asking, has it too.
        workers
            .queues
            .retain(|_, queue| Arc::strong_count(queue) > 1);
    }

    /// Stops all workers: those at work when they have answered.
    pub(crate) fn stop(&self) {
        self.0.at_work.close();
        self.workers().idle.clear();
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        let workers = self.0.workers.lock();
        workers.unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, function: &Function) -> (Arc<Function>, Arc<tokio::sync::Mutex<()>>) {
        let mut workers = self.workers();
        if let Some((function, queue)) = workers.queues.get_key_value(function) {
            return (function.clone(), queue.clone());
        }
        let function = Arc::new(function.clone());
        let queue = Arc::default();
        workers.queues.insert(function.clone(), Arc::clone(&queue));
        (function, queue)
    }

    /// The idle worker of a function. Without one, room for another: whoever was idle longest is
    /// stopped.
    fn idle_or_room(&self, function: &Function) -> Option<Worker> {
        let mut workers = self.workers();
        let idle = &mut workers.idle;
        if let Some(at) = idle.iter().position(|idle| *idle.function == *function) {
            return Some(idle.remove(at).worker);
        }
        // Those who may work but have not looked for a worker yet count too. The longest idle are
        // first.
        let room = self.0.at_work.available_permits();
        let surplus = idle.len().saturating_sub(room);
        idle.drain(..surplus);
        None
    }

    /// Keeps a worker that has answered, and lets another one work.
    fn rest_after(&self, turn: Turn<'_>, worker: Worker) {
        let mut workers = self.workers();
        if !self.0.at_work.is_closed() {
            workers.idle.push(Idle {
                function: turn.function.clone(),
                worker,
                since: Instant::now(),
            });
        }
        drop(turn);
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
}

#[cfg(test)]
mod tests {
    use web::{ApiError, Code};

    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(120);

    fn view(name: &str) -> OnDemandView {
        OnDemandView {
            name: name.to_owned(),
            features: Vec::new(),
            sources: Vec::new(),
            request: Vec::new(),
            function: Function {
                name: name.to_owned(),
                body: Vec::new(),
                text: String::new(),
                mode: "pandas".to_owned(),
                singleton: false,
            },
        }
    }

    #[tokio::test]
    async fn no_more_functions_are_asked_at_once_than_there_may_be_workers() {
        let config = OnDemandConfig {
            max_workers: 2,
            ..OnDemandConfig::default()
        };
        let transforms = Transforms::new(None, &config, Path::new("nowhere"));
        let [a, b, c] = ["a", "b", "c"].map(view);
        let first = transforms.turn(&a, LONG).await.unwrap();
        let again = transforms.turn(&a, AT_ONCE).await.err().unwrap();
        assert_eq!(again.code(), Code::Unavailable);
        let second = transforms.turn(&b, LONG).await.unwrap();
        let refused = transforms.turn(&c, AT_ONCE).await.err().unwrap();
        assert!(refused.help().unwrap().contains("max_workers"));
        let answer = axum::response::IntoResponse::into_response(ApiError::from(refused));
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        // Whoever gives up waiting leaves its place to others.
        drop(first);
        let third = transforms.turn(&c, LONG).await.unwrap();
        drop((second, third));
        transforms.rest();
        assert!(transforms.workers().queues.is_empty());
        transforms.stop();
        let stopped = transforms.turn(&a, LONG).await.err().unwrap();
        assert!(stopped.to_string().contains("the server stops"));
    }
}
