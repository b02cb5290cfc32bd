//! The models that are ready: found by version, loaded once, stopped when idle, deleted or least
//! recently used beyond the bounds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use registry::{ModelVersion, Selector};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::folder;
use crate::load::{Loader, Model};
use crate::model_server::ModelFolder;
use crate::variables::Variables;

/// How long a failure to load is answered without another attempt.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// How often idle and deleted models are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a deployment waits for a proof.
const PROOF_PATIENCE: Duration = Duration::from_secs(60);

/// A version of one life of a model: a model that is deleted and made again is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    version: i64,
    created_at: i64,
}

impl Key {
    fn of(version: &ModelVersion) -> Self {
        Self {
            name: version.name.clone(),
            version: version.version,
            created_at: version.created_at,
        }
    }
}

type Loading = Shared<BoxFuture<'static, Result<Arc<Model>, Arc<Error>>>>;

#[derive(Clone)]
struct Slot {
    loading: Loading,
    begun: Instant,
    /// Whether anybody wants an answer of it.
    wanted: bool,
}

impl Slot {
    /// The model, once it is loaded.
    fn model(&self) -> Option<&Arc<Model>> {
        self.loading.peek()?.as_ref().ok()
    }

    fn failed_long_ago(&self) -> bool {
        matches!(self.loading.peek(), Some(Err(_))) && self.begun.elapsed() > FAILURE_KEPT
    }
}

/// Stops a model that was loaded unasked, or its loading, unless somebody has asked for it meanwhile;
/// also when whoever wanted to know is gone.
struct Unasked<'m> {
    models: &'m Models,
    key: Key,
}

impl Drop for Unasked<'_> {
    fn drop(&mut self) {
        let mut slots = self.models.lock();
        if slots.get(&self.key).is_some_and(|slot| !slot.wanted) {
            slots.remove(&self.key);
        }
    }
}

/// The cache of models.
pub(crate) struct Models {
    loader: Loader,
    slots: Mutex<HashMap<Key, Slot>>,
    /// Whose turn it is to be proven unasked: a machine has other work.
    pub(crate) turns: Semaphore,
    memory_bytes: u64,
    stop: CancellationToken,
}

impl Models {
    pub(crate) fn new(loader: Loader) -> Self {
        let memory_bytes = loader.maker.config.memory_bytes();
        Self {
            loader,
            slots: Mutex::default(),
            turns: Semaphore::new(1),
            memory_bytes,
            stop: CancellationToken::new(),
        }
    }

    /// The model of a version; whether it was loaded for this call.
    pub(crate) async fn get(&self, version: &ModelVersion) -> Result<(Arc<Model>, bool), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopping);
        }
        let (loading, ready) = self.slot(version, true);
        let model = loading.await?;
        model.touch();
        if !ready {
            self.shrink();
        }
        Ok((model, !ready))
    }

    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Loads a model that nobody has asked for, for what is learned by that, and stops it again
    /// unless somebody asks for it meanwhile.
    pub(crate) async fn load_unasked(&self, version: &ModelVersion) -> Result<(), Error> {
        let (loading, _) = self.slot(version, false);
        let _unasked = Unasked {
            models: self,
            key: Key::of(version),
        };
        loading.await?;
        Ok(())
    }

    /// Has all on this machine that a process needs to serve a version. A proof that is under way is
    /// joined, and one that is missing made: each of the version's processes would make its own.
    ///
    /// # Errors
    /// What is missing, in words that name the model.
    pub(crate) async fn prepare(
        &self,
        version: &ModelVersion,
        variables: &Variables,
    ) -> Result<ModelFolder, Error> {
        let mut prepared = self.loader.prepare(version).await?;
        // What is proven with other variables is no proof.
        if prepared.lacks_proof() && variables.is_empty() {
            let proving = tokio::time::timeout(PROOF_PATIENCE, self.prove(version));
            let (model, version) = (&version.name, version.version);
            // Without it each process makes its own, and tells why if it fails.
            match proving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(model, version, %error, "a model is not proven"),
                Err(_) => tracing::debug!(model, version, "a proof is not waited for any longer"),
            }
            prepared = self.loader.with_proof(prepared);
        }
        Ok(prepared.model)
    }

    fn slot(&self, version: &ModelVersion, wanted: bool) -> (Loading, bool) {
        let key = Key::of(version);
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(&key)
            && !slot.failed_long_ago()
        {
            slot.wanted |= wanted;
            return (slot.loading.clone(), slot.model().is_some());
        }
        let loading = self.begin(version.clone());
        let slot = Slot {
            loading: loading.clone(),
            begun: Instant::now(),
            wanted,
        };
        slots.insert(key, slot);
        (loading, false)
    }

    /// Loads in a task of its own: it is finished also when its caller goes away, as long as its slot
    /// is there.
    fn begin(&self, version: ModelVersion) -> Loading {
        let (loader, stop) = (self.loader.clone(), self.stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let loaded = stop.run_until_cancelled(loader.load(&version)).await;
            loaded.unwrap_or(Err(Error::Stopping))
        }));
        let loading = async move {
            match task.await {
                Ok(Ok(model)) => Ok(Arc::new(model)),
                Ok(Err(error)) => Err(Arc::new(error)),
                Err(_) => Err(Arc::new(Error::Stopping)),
            }
        };
        loading.boxed().shared()
    }

    /// Stops models until the rest is within the bounds; the one used last stays.
    fn shrink(&self) {
        let mut slots = self.lock();
        let mut ready: Vec<(Key, Duration, u64)> = slots
            .iter()
            .filter_map(|(key, slot)| {
                let model = slot.model()?;
                Some((key.clone(), model.idle(), model.queue.memory_bytes()))
            })
            .collect();
        ready.sort_by_key(|(_, idle, _)| *idle);
        let (mut count, mut bytes) = (0, 0);
        for (at, (key, _, held)) in ready.into_iter().enumerate() {
            count += 1;
            bytes += held;
            let within = count <= self.loader.maker.config.max_models && bytes <= self.memory_bytes;
            if at > 0 && !within {
                tracing::info!(model = %key.name, version = key.version, "a model is stopped to make room");
                slots.remove(&key);
                count -= 1;
                bytes -= held;
            }
        }
    }

    /// Sweeps until `shutdown`, then stops every model.
    pub(crate) async fn work(&self, shutdown: CancellationToken) {
        folder::make_room(&self.loader.copies).await;
        let mut generation = self.loader.registry.generation();
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.drop_idle();
            self.shrink();
            let now = self.loader.registry.generation();
            if now != generation {
                generation = now;
                self.drop_deleted().await;
            }
        }
        self.stop.cancel();
        self.lock().clear();
    }

    fn drop_idle(&self) {
        let timeout = self.loader.maker.config.idle_timeout();
        self.lock().retain(|key, slot| {
            let idle = slot.model().is_some_and(|model| model.idle() > timeout);
            if idle {
                tracing::info!(model = %key.name, version = key.version, "an idle model is stopped");
            }
            !idle && !slot.failed_long_ago()
        });
    }

    async fn drop_deleted(&self) {
        let keys: Vec<Key> = self.lock().keys().cloned().collect();
        for key in keys {
            let found = self
                .loader
                .registry
                .resolve(&key.name, &Selector::Number(key.version))
                .await;
            let gone = match found {
                Ok(version) => Key::of(&version) != key,
                Err(error) => matches!(
                    error,
                    registry::Error::ModelNotFound(_) | registry::Error::VersionNotFound { .. }
                ),
            };
            if gone {
                tracing::info!(model = %key.name, version = key.version, "a deleted model is stopped");
                self.lock().remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
