//! The target `kubernetes`: each deployment is a Deployment of a cluster, each endpoint a Service
//! before them. The rows say what should be there; what is there is made so by server-side apply.

mod address;
mod api;
mod arrange;
mod cause;
mod difference;
mod health;
mod object;
mod objects;
mod plan;
mod refusal;
mod rollout;
mod shares;
mod wait;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::deployment::{Failure, Health};
use api::Api;
use arrange::{Key, Known};
use objects::Shape;

/// The cluster that models are deployed into; cheap to clone.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    inner: Arc<Inner>,
}

struct Inner {
    config: Cluster,
    start_timeout_s: u64,
    shape: Shape,
    api: OnceCell<Api>,
    /// What is known of each endpoint's objects, as far as this process made them.
    endpoints: Mutex<HashMap<Key, Known>>,
    /// How deployments were found to be, and when they were last looked at.
    healths: Mutex<HashMap<String, Health>>,
    looked: Mutex<Option<Instant>>,
}

impl Kubernetes {
    /// The cluster of the settings, if there is one; it is not spoken to before there is something
    /// to do.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        config.kubernetes.is_set().then(|| Self {
            inner: Arc::new(Inner {
                config: config.kubernetes.clone(),
                start_timeout_s: config.start_timeout_s,
                shape: Shape::new(config),
                api: OnceCell::new(),
                endpoints: Mutex::default(),
                healths: Mutex::default(),
                looked: Mutex::default(),
            }),
        })
    }

    async fn api(&self) -> Result<&Api, Failure> {
        let config = &self.inner.config;
        self.inner.api.get_or_try_init(|| Api::open(config)).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
