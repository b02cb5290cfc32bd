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
mod pull_secret;
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
use crate::pull::PullLogin;
use crate::told::Told;
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
    /// What nodes pull images with, where asgard is to see to it.
    pull: Option<PullLogin>,
    pull_secrets: Arc<tokio::sync::Mutex<pull_secret::Made>>,
    looked_at_secrets: Mutex<Option<Instant>>,
    /// Why the Secrets of namespaces cannot be kept valid.
    pull_troubles: Told<String>,
}

impl Kubernetes {
    /// The cluster of the settings, if there is one; it is not spoken to before there is something
    /// to do.
    pub(crate) fn new(config: &Config, pull: Option<&PullLogin>) -> Option<Self> {
        let cluster = &config.kubernetes;
        let makes = cluster.make_pull_secret && cluster.pull_secret.is_none();
        let pull = pull.filter(|_| makes);
        cluster.is_set().then(|| Self {
            inner: Arc::new(Inner {
                config: cluster.clone(),
                start_timeout_s: config.start_timeout_s,
                shape: Shape::new(config, pull.cloned()),
                api: OnceCell::new(),
                endpoints: Mutex::default(),
                healths: Mutex::default(),
                looked: Mutex::default(),
                pull: pull.cloned(),
                pull_secrets: Arc::default(),
                looked_at_secrets: Mutex::default(),
                pull_troubles: Told::default(),
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
