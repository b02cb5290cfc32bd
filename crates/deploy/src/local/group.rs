//! The replicas of one deployment: as many as it should have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serving::{ModelFolder, Variables};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::launch::{Bounds, Launcher};
use super::replica::{Replica, Runner, Status};
use crate::Deployments;
use crate::deployment::Failure;
use crate::environment::Opened;

/// How often it is looked whether replicas that are going away have answered all.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// The replicas of a deployment; dropping it stops them.
pub(crate) struct Group {
    deployments: Deployments,
    deployment_id: String,
    launcher: Launcher,
    model: Arc<ModelFolder>,
    variables: Variables,
    /// What its log does not show of them.
    secrets: Arc<[String]>,
    bounds: Bounds,
    start_timeout: Duration,
    stop: CancellationToken,
    replicas: Mutex<Vec<Arc<Replica>>>,
    turn: AtomicUsize,
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Group {
    /// A group without replicas yet.
    pub(crate) fn new(
        deployments: &Deployments,
        deployment: &Opened,
        launcher: Launcher,
        model: ModelFolder,
    ) -> Self {
        Self {
            deployments: deployments.clone(),
            deployment_id: deployment.id.clone(),
            launcher,
            model: Arc::new(model),
            secrets: jobs::find_secrets(deployment.variables()).into(),
            variables: deployment.variables().clone().into(),
            bounds: Bounds {
                memory_bytes: deployment.order.memory_bytes,
                cpus: deployment.order.cpus,
            },
            start_timeout: deployments.inner.config.start_timeout(),
            stop: CancellationToken::new(),
            replicas: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Starts replicas, or stops the last ones, until there are `count`.
    pub(crate) fn scale(&self, count: u32) {
        let count = count as usize;
        let mut replicas = self.lock();
        while replicas.len() < count {
            let index = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
            let runner = Runner {
                deployments: self.deployments.clone(),
                deployment_id: self.deployment_id.clone(),
                launcher: self.launcher.clone(),
                model: Arc::clone(&self.model),
                variables: self.variables.clone(),
                secrets: Arc::clone(&self.secrets),
                bounds: self.bounds,
                start_timeout: self.start_timeout,
                index,
                name: name(index),
            };
            replicas.push(Replica::begin(runner, self.stop.child_token()));
        }
        for leaving in replicas.drain(count..) {
            tokio::spawn(let_go(
                leaving,
                self.deployments.inner.config.request_timeout(),
            ));
        }
    }

    /// Waits until all replicas are ready.
    ///
    /// # Errors
    /// The first failure of one.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let replicas = self.lock().clone();
        let waiting = replicas.iter().map(|replica| async {
            let mut status = replica.status();
            let settled = status.wait_for(|s| !matches!(s, Status::Starting)).await;
            match settled.as_deref() {
                Ok(Status::Down(failure)) => Err(failure.clone()),
                _ => Ok(()),
            }
        });
        futures_util::future::try_join_all(waiting).await?;
        Ok(())
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.lock().iter().filter(|r| r.is_ready()).count()
    }

    /// Why a replica is down, if one is.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.lock()
            .iter()
            .find_map(|replica| match &*replica.status().borrow() {
                Status::Down(failure) => Some(failure.clone()),
                _ => None,
            })
    }

    /// The ready replica with the least to do that was not `tried`; those that are equal take
    /// turns.
    pub(crate) fn choose(&self, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let replicas = self.lock();
        let fresh = |r: &&Arc<Replica>| !tried.iter().any(|t| Arc::ptr_eq(t, r));
        let ready: Vec<&Arc<Replica>> = replicas
            .iter()
            .filter(|r| r.is_ready())
            .filter(fresh)
            .collect();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..ready.len()).map(|at| ready[(first + at) % ready.len()]);
        in_turn.min_by_key(|r| r.pool.in_flight()).cloned()
    }

    /// Waits for the requests that its replicas have, for `limit` at most, then stops them.
    pub(crate) async fn drain(&self, limit: Duration) {
        let replicas = self.lock().clone();
        let all = replicas.into_iter().map(|replica| let_go(replica, limit));
        futures_util::future::join_all(all).await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Replica>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that no other replica has: one of the same index may still be answering its last requests.
fn name(index: u32) -> String {
    let id = ulid::Ulid::new().to_string().to_lowercase();
    // The end is the random part; sockets need short paths.
    let random = id.split_at(14).1;
    format!("{index}-{random}")
}

/// Stops a replica that gets no new requests once it has answered its last.
async fn let_go(replica: Arc<Replica>, limit: Duration) {
    let began = Instant::now();
    while replica.pool.in_flight() > 0 && began.elapsed() < limit {
        sleep(DRAIN_STEP).await;
    }
    replica.stop.cancel();
}
