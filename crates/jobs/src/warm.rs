//! Interpreters that wait with their imports done.
//!
//! Each is started in the sandbox of a job, imports what the last script of its environment
//! imported, and serves one job. Nothing is shared between jobs, nothing is ever used twice. One
//! that still imports is given only to a script that would import the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use environments::Environment;
use futures_util::FutureExt as _;

use crate::imports;
use crate::launch::{Bounds, Interpreter, Launcher};
use crate::memory;

/// Below this much free memory none is started, and below half of it none is kept.
const MEMORY_NEEDED_BYTES: u64 = 1 << 30;

/// Packages whose import neither starts threads that matter nor looks at the script.
const PRELOADABLE: [&str; 12] = [
    "mlflow",
    "sklearn",
    "pandas",
    "numpy",
    "scipy",
    "xgboost",
    "lightgbm",
    "catboost",
    "skops",
    "joblib",
    "matplotlib",
    "torch",
];

/// The waiting interpreters; cheap to clone.
#[derive(Clone)]
pub(crate) struct Warm {
    launcher: Launcher,
    size: usize,
    idle: Duration,
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
}

struct Waiting {
    /// Held, so that it stays as long as its interpreter waits.
    environment: Environment,
    bounds: Bounds,
    modules: Vec<String>,
    since: Instant,
    interpreter: Interpreter,
}

impl Warm {
    pub(crate) fn new(launcher: Launcher, size: usize, idle: Duration) -> Self {
        Self {
            launcher,
            size,
            idle,
            waiting: Arc::default(),
        }
    }

    /// Takes an interpreter that waits in this environment, or one on its way for a script that
    /// needs `modules`.
    pub(crate) fn take(
        &self,
        environment: &Environment,
        bounds: Bounds,
        modules: &[String],
    ) -> Option<Interpreter> {
        let mut waiting = self.seeing_all_data();
        loop {
            let index = waiting.iter_mut().position(|w| {
                w.environment.key == environment.key
                    && w.bounds == bounds
                    && (w.interpreter.is_ready() || w.modules == modules)
            })?;
            let mut found = waiting.remove(index)?.interpreter;
            // One that died while it waited is of no use.
            if found.process.wait().now_or_never().is_none() {
                return Some(found);
            }
        }
    }

    /// Starts an interpreter for the next job of this environment, in the place of older ones.
    pub(crate) async fn refill(
        &self,
        environment: &Environment,
        bounds: Bounds,
        modules: &[String],
    ) {
        let short = memory::of_machine().is_some_and(|m| m.available_bytes < MEMORY_NEEDED_BYTES);
        if self.size == 0 || short || modules.is_empty() {
            return;
        }
        let enough = self
            .seeing_all_data()
            .iter()
            .filter(|w| w.environment.key == environment.key && w.bounds == bounds)
            .count()
            >= self.size;
        if enough {
            return;
        }
        match self.launcher.start(environment, bounds, modules, &[]).await {
            Ok(interpreter) => {
                let mut waiting = self.lock();
                waiting.push_back(Waiting {
                    environment: environment.clone(),
                    bounds,
                    modules: modules.to_vec(),
                    since: Instant::now(),
                    interpreter,
                });
                while waiting.len() > self.size {
                    waiting.pop_front();
                }
            }
            Err(error) => tracing::warn!(%error, "no interpreter could be started in advance"),
        }
    }

    /// Drops what waited too long, or all when memory is short.
    pub(crate) fn tidy(&self) {
        let short =
            memory::of_machine().is_some_and(|m| m.available_bytes < MEMORY_NEEDED_BYTES / 2);
        self.lock()
            .retain(|waiting| !short && waiting.since.elapsed() < self.idle);
    }

    /// Drops all.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Those that wait, without any whose sandbox shows other folders of data than one made now.
    fn seeing_all_data(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        let data_dirs = self.launcher.data_dirs();
        let mut waiting = self.lock();
        waiting.retain(|w| w.interpreter.data_dirs == data_dirs);
        waiting
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to import in advance for a script like this one: the modules of its import statements that
/// belong to packages known to bear it, and what those load later.
pub(crate) fn preload(dotted: &[String]) -> Vec<String> {
    let mut modules = Vec::new();
    for module in dotted {
        let top = module.split('.').next().unwrap_or_default();
        if PRELOADABLE.contains(&top) {
            modules.push(module.clone());
            modules.extend(imports::companions(top).iter().map(|m| (*m).to_owned()));
        }
    }
    modules.sort();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_bears_it_is_imported_in_advance() {
        let of = |names: &[&str]| {
            let dotted: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            preload(&dotted)
        };
        assert!(of(&["os", "mycompany.db"]).is_empty());
        let modules = of(&["sklearn.tree", "mlflow"]);
        assert!(modules.contains(&"sklearn.tree".to_owned()));
        assert!(modules.contains(&"mlflow.pyfunc".to_owned()));
    }
}
