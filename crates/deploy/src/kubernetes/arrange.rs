//! Making what is in the cluster what the rows say: endpoints with their live deployments, and
//! nothing of those that are gone.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::object::{Kind, Object};
use super::objects::{REACH, WORKLOAD, endpoint_name, workload_name};
use super::refusal::is_forbidden;
use super::{Kubernetes, lock};
use crate::Deployments;
use crate::deployment::{Deployment, Failure};
use crate::environment::Opened;
use crate::log::PLATFORM;

/// When an endpoint that could not be made as it should be is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody still changes an endpoint.
const BUSY: Duration = Duration::from_millis(50);

/// The namespace and model of an endpoint.
pub(super) type Key = (String, String);

/// What is known of an endpoint's objects.
#[derive(Default)]
pub(super) struct Known {
    /// What was applied last.
    applied: Vec<Object>,
    busy: bool,
    /// Not before this, after a failure.
    again: Option<Instant>,
    /// The failure, as it was told.
    told: Option<String>,
}

impl Known {
    /// Has what was applied be applied again.
    pub(super) fn forget(&mut self) {
        self.applied.clear();
    }
}

/// Keeps an endpoint's objects to one that changes them. Afterwards they are made as the rows say.
pub(crate) struct Held {
    kubernetes: Kubernetes,
    key: Key,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.kubernetes.inner.endpoints).remove(&self.key);
    }
}

impl Kubernetes {
    /// Waits until nobody changes an endpoint's objects, and keeps others from it.
    pub(crate) async fn hold(&self, deployment: &Deployment) -> Held {
        let order = &deployment.order;
        let key = (order.namespace.clone(), order.model_name.clone());
        while !self.claim(&key) {
            tokio::time::sleep(BUSY).await;
        }
        Held {
            kubernetes: self.clone(),
            key,
        }
    }

    fn claim(&self, key: &Key) -> bool {
        let mut endpoints = lock(&self.inner.endpoints);
        let known = endpoints.entry(key.clone()).or_default();
        !std::mem::replace(&mut known.busy, true)
    }

    /// Has every endpoint of these live deployments be as it should, and looks how they are.
    pub(crate) fn keep(&self, deployments: &Deployments, live: &[Opened], tasks: &TaskTracker) {
        let mut members: Vec<(Key, Vec<Opened>)> = Vec::new();
        for deployment in live {
            let order = &deployment.order;
            let key = (order.namespace.clone(), order.model_name.clone());
            match members.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(deployment.clone()),
                None => members.push((key, vec![deployment.clone()])),
            }
        }
        lock(&self.inner.endpoints)
            .retain(|key, known| known.busy || members.iter().any(|(wanted, _)| wanted == key));
        for (key, members) in members {
            self.keep_endpoint(deployments, key, members, tasks);
        }
        self.keep_pull_secrets(live, tasks);
        self.look_after(live, tasks);
    }

    fn keep_endpoint(
        &self,
        deployments: &Deployments,
        key: Key,
        members: Vec<Opened>,
        tasks: &TaskTracker,
    ) {
        let objects = self.inner.shape.endpoint(&members);
        {
            let mut endpoints = lock(&self.inner.endpoints);
            let known = endpoints.entry(key.clone()).or_default();
            let waits = known.again.is_some_and(|again| Instant::now() < again);
            if known.busy || waits || known.applied == objects {
                return;
            }
            known.busy = true;
        }
        let (kubernetes, deployments) = (self.clone(), deployments.clone());
        tasks.spawn(async move {
            let applied = kubernetes.apply(&objects).await;
            let failure = applied.unwrap_or_else(Some);
            let problem = failure.map(|failure| failure.problem);
            let is_new = kubernetes.note(&key, objects, problem.as_ref().map(|p| &p.message));
            let Some(problem) = problem.filter(|_| is_new) else {
                return;
            };
            tracing::error!(namespace = %key.0, model = %key.1, message = %problem.message, "an endpoint is not as it should be");
            let mut lines = vec![format!("✗ the cluster is not as it should be: {}", problem.message)];
            lines.extend(problem.help.map(|help| format!("help: {help}")));
            for member in &members {
                deployments.say(&member.id, PLATFORM, lines.clone()).await;
            }
        });
    }

    /// Notes that an endpoint's objects were applied, or with which problem they were not; whether
    /// that is another one than before.
    fn note(&self, key: &Key, objects: Vec<Object>, problem: Option<&String>) -> bool {
        let mut endpoints = lock(&self.inner.endpoints);
        let known = endpoints.entry(key.clone()).or_default();
        known.busy = false;
        known.again = problem.map(|_| Instant::now() + AGAIN);
        if problem.is_none() {
            known.applied = objects;
        }
        let before = std::mem::replace(&mut known.told, problem.cloned());
        before.as_ref() != problem
    }

    /// Makes an endpoint be as these members share it, and waits until its address answers. The
    /// log of the deployment `told` says how it goes.
    ///
    /// # Errors
    /// What the cluster refuses, or that no address comes or answers.
    pub(crate) async fn reach(
        &self,
        deployments: &Deployments,
        told: &str,
        members: &[Opened],
    ) -> Result<String, Failure> {
        // What is left of others' is tried again, and told in their logs, once nobody holds the endpoint.
        self.apply(&self.inner.shape.endpoint(members)).await?;
        self.address(deployments, told, members).await
    }

    /// Removes everything of a deployment, and of its endpoint when it is alone there.
    ///
    /// # Errors
    /// What the cluster refuses; then it is to be tried again.
    pub(crate) async fn clear(&self, deployment: &Deployment, alone: bool) -> Result<(), Failure> {
        let api = self.api().await?;
        let order = &deployment.order;
        let name = workload_name(&order.model_name, &deployment.id);
        for kind in WORKLOAD {
            api.delete(kind, &order.namespace, &name).await?;
        }
        if !order.environment.is_empty() {
            let deleted = api.delete(Kind::Secret, &order.namespace, &name).await;
            match deleted {
                // Without a right to Secrets none was made, unless somebody took the right away since.
                Err(failure) if is_forbidden(&failure) => {
                    let message = &failure.problem.message;
                    tracing::warn!(message, "a Secret of a deployment is left, if there is one");
                }
                deleted => deleted?,
            }
        }
        if alone {
            let name = endpoint_name(&order.model_name);
            for kind in REACH {
                api.delete(kind, &order.namespace, &name).await?;
            }
        }
        lock(&self.inner.healths).remove(&deployment.id);
        Ok(())
    }

    /// Makes objects as they should be. Without the right to a Secret, it and the Deployment of its
    /// name, whose pods begin with it, are left as they are; the answer is why.
    ///
    /// # Errors
    /// What else the cluster refuses; then the rest is not made.
    pub(super) async fn apply(&self, objects: &[Object]) -> Result<Option<Failure>, Failure> {
        let api = self.api().await?;
        let mut left = HashSet::new();
        let mut why = None;
        for object in objects {
            if object.kind == Kind::Deployment && left.contains(&object.name) {
                continue;
            }
            match api.apply(object).await {
                Err(failure) if object.kind == Kind::Secret && is_forbidden(&failure) => {
                    left.insert(&object.name);
                    why.get_or_insert(failure);
                }
                applied => applied?,
            }
        }
        Ok(why)
    }
}
