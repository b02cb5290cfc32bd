//! The Secret by which nodes pull the images that asgard pushes: one in each namespace that has
//! deployments, made of the login that asgard itself has, and made anew when that changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;

use super::object::{Kind, MANAGED_BY, MANAGER, Object};
use super::{Kubernetes, lock};
use crate::deployment::{Deployment, Failure};

/// The name of these. The role of deploy/kubernetes/base/rbac.yaml is for no other.
pub(super) const NAME: &str = "asgard-pull";

/// How often it is looked whether they are there and valid.
const LOOK: Duration = Duration::from_secs(10);

/// The logins that were put into namespaces, as far as this process did.
pub(super) type Made = HashMap<String, String>;

/// Keeps the Secrets to one that changes them.
pub(crate) struct PullHeld(OwnedMutexGuard<Made>);

impl Kubernetes {
    /// Has the nodes pull the image of a deployment.
    pub(super) async fn let_pull(
        &self,
        deployment: &Deployment,
        image: &str,
    ) -> Result<(), Failure> {
        if !self.inner.shape.pulls_by_secret(image) {
            return Ok(());
        }
        let mut made = self.hold_pull_secrets().await;
        let made = self.make(&mut made.0, &deployment.order.namespace);
        match made.await {
            Err(failure) if has_no_right(&failure) => Ok(()),
            made => made,
        }
    }

    /// Has the Secrets of the namespaces of live deployments be valid, unless that was looked at just
    /// now.
    pub(super) fn keep_pull_secrets(&self, live: &[Deployment], tasks: &TaskTracker) {
        let by_secret = |deployment: &&Deployment| {
            let image = deployment.image.as_deref();
            image.is_some_and(|image| self.inner.shape.pulls_by_secret(image))
        };
        let wanted = live.iter().filter(by_secret);
        let namespaces: BTreeSet<_> = wanted.map(|d| d.order.namespace.clone()).collect();
        // Held from here on: whatever of these is removed is cleared up afterwards.
        let made = Arc::clone(&self.inner.pull_secrets).try_lock_owned();
        let (false, Ok(mut made)) = (namespaces.is_empty(), made) else {
            return;
        };
        {
            let mut looked = lock(&self.inner.looked_at_secrets);
            if looked.is_some_and(|at| at.elapsed() < LOOK) {
                return;
            }
            *looked = Some(Instant::now());
        }
        let kubernetes = self.clone();
        tasks.spawn(async move {
            made.retain(|namespace, _| namespaces.contains(namespace));
            for namespace in &namespaces {
                if let Err(failure) = kubernetes.keep_one(&mut made, namespace).await {
                    let message = &failure.problem.message;
                    tracing::error!(namespace, message, "nodes may not be able to pull images");
                }
            }
            *lock(&kubernetes.inner.looked_at_secrets) = Some(Instant::now());
        });
    }

    async fn keep_one(&self, made: &mut Made, namespace: &str) -> Result<(), Failure> {
        let there = self.api().await?.get(Kind::Secret, namespace, NAME).await?;
        if there.is_none() {
            made.remove(namespace);
        }
        let login = self.login().await?;
        if login.is_some() && login.as_ref() != made.get(namespace) {
            self.make(made, namespace).await?;
        }
        Ok(())
    }

    async fn make(&self, made: &mut Made, namespace: &str) -> Result<(), Failure> {
        let Some(login) = self.login().await? else {
            return Ok(());
        };
        let mut secret = pull_secret(namespace);
        secret.body["data"] = json!({ ".dockerconfigjson": STANDARD.encode(&login) });
        self.api().await?.apply(&secret).await?;
        made.insert(namespace.to_owned(), login);
        Ok(())
    }

    async fn login(&self) -> Result<Option<String>, Failure> {
        match &self.inner.pull {
            Some(pull) => (pull.find)().await,
            None => Ok(None),
        }
    }

    /// Waits until nobody changes the Secrets, and keeps others from it.
    pub(crate) async fn hold_pull_secrets(&self) -> PullHeld {
        let made = Arc::clone(&self.inner.pull_secrets);
        PullHeld(made.lock_owned().await)
    }

    /// Removes the Secret of a namespace that needs none any more.
    ///
    /// # Errors
    /// What the cluster refuses; then it is to be tried again.
    pub(crate) async fn clear_pull_secret(
        &self,
        mut held: PullHeld,
        namespace: &str,
    ) -> Result<(), Failure> {
        // Who makes none needs no right to them.
        if self.inner.pull.is_none() {
            return Ok(());
        }
        held.0.remove(namespace);
        let api = self.api().await?;
        match api.delete(Kind::Secret, namespace, NAME).await {
            Err(failure) if has_no_right(&failure) => Ok(()),
            gone => gone,
        }
    }
}

/// Whether the role knows of no Secrets, such as one of before there were these: nodes may have
/// another way to pull, and nothing was made that is to be removed.
fn has_no_right(failure: &Failure) -> bool {
    let forbidden = failure.problem.code == "cluster_forbidden";
    if forbidden {
        let message = &failure.problem.message;
        tracing::warn!(
            message,
            "the Secret that nodes pull images with is left alone"
        );
    }
    forbidden
}

/// The Secret but for what is in it.
pub(super) fn pull_secret(namespace: &str) -> Object {
    let labels = json!({ MANAGED_BY: MANAGER, "app.kubernetes.io/component": "model" });
    Object {
        kind: Kind::Secret,
        namespace: namespace.to_owned(),
        name: NAME.to_owned(),
        body: json!({
            "apiVersion": Kind::Secret.api_version(),
            "kind": Kind::Secret.as_str(),
            "metadata": { "name": NAME, "namespace": namespace, "labels": labels },
            "type": "kubernetes.io/dockerconfigjson",
        }),
    }
}

/// The same as it is shown.
pub(super) fn shown(mut secret: Object) -> Value {
    secret.body["data"] = json!({ ".dockerconfigjson": "***" });
    secret.body
}
