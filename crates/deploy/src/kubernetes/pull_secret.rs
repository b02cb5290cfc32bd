//! The Secret by which nodes pull the images that asgard pushes: one in each namespace that has
//! deployments, made of the login that asgard itself has, and made anew when that changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio_util::task::TaskTracker;

use super::object::{Kind, MANAGED_BY, MANAGER, Object};
use super::refusal::is_forbidden;
use super::{Kubernetes, lock};
use crate::deployment::{Deployment, Failure};
use crate::environment::Opened;

/// The name of these. The role of deploy/kubernetes/base/rbac.yaml is for no other.
pub(super) const NAME: &str = "asgard-pull";

/// How often it is looked whether they are there and valid.
const LOOK: Duration = Duration::from_secs(10);

/// The logins that were put into namespaces, as far as this process did.
pub(super) type Made = HashMap<String, String>;

/// Differs whenever a Secret is applied. One that is applied as it is would keep its version, and who
/// removes it for being of no use would not see that another server just put it to use.
const MADE: &str = "asgard/made";

/// The Secret of a namespace as it was seen; nobody of this process changes the Secrets meanwhile.
pub(crate) struct PullSecret {
    seen: DynamicObject,
    namespace: String,
    made: OwnedMutexGuard<Made>,
}

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
        let mut made = Arc::clone(&self.inner.pull_secrets).lock_owned().await;
        let made = self.make(&mut made, &deployment.order.namespace);
        match made.await {
            Err(failure) if has_no_right(&failure) => Ok(()),
            made => made,
        }
    }

    /// Has the Secrets of the namespaces of live deployments be valid, unless that was looked at just
    /// now.
    pub(super) fn keep_pull_secrets(&self, live: &[Opened], tasks: &TaskTracker) {
        let by_secret = |deployment: &&Opened| {
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
                kubernetes.keep_one(&mut made, namespace).await;
            }
            *lock(&kubernetes.inner.looked_at_secrets) = Some(Instant::now());
        });
    }

    /// Has the Secret of one namespace be valid, and tells once when that cannot be.
    async fn keep_one(&self, made: &mut Made, namespace: &String) {
        let troubles = &self.inner.pull_troubles;
        let Err(failure) = self.renew(made, namespace).await else {
            return troubles.forget(namespace);
        };
        let message = &failure.problem.message;
        if troubles.is_new(namespace, message) {
            tracing::error!(%namespace, message, "nodes may not be able to pull images");
        }
    }

    async fn renew(&self, made: &mut Made, namespace: &str) -> Result<(), Failure> {
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
        secret.body["metadata"]["annotations"] = json!({ MADE: ulid::Ulid::new().to_string() });
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

    /// The Secret that a namespace has, where asgard makes such.
    ///
    /// # Errors
    /// When the cluster cannot be read.
    pub(crate) async fn pull_secret(&self, namespace: &str) -> Result<Option<PullSecret>, Failure> {
        // Who makes none needs no right to them.
        if self.inner.pull.is_none() {
            return Ok(None);
        }
        let made = Arc::clone(&self.inner.pull_secrets).lock_owned().await;
        let seen = match self.api().await?.get(Kind::Secret, namespace, NAME).await {
            Err(failure) if has_no_right(&failure) => None,
            seen => seen?,
        };
        Ok(seen.map(|seen| PullSecret {
            seen,
            namespace: namespace.to_owned(),
            made,
        }))
    }

    /// Removes a Secret that its namespace needs no more, unless another server has put it to use since
    /// it was seen.
    ///
    /// # Errors
    /// What the cluster refuses; then it is to be tried again.
    pub(crate) async fn clear_pull_secret(&self, mut secret: PullSecret) -> Result<(), Failure> {
        let PullSecret {
            seen, namespace, ..
        } = &secret;
        let api = self.api().await?;
        let deleted = api.delete_seen(Kind::Secret, namespace, seen).await;
        match deleted {
            Err(failure) if !has_no_right(&failure) => return Err(failure),
            _ => secret.made.remove(&secret.namespace),
        };
        Ok(())
    }
}

/// Whether the role knows of no Secrets, such as one of before there were these: nodes may have
/// another way to pull, and nothing was made that is to be removed.
fn has_no_right(failure: &Failure) -> bool {
    let forbidden = is_forbidden(failure);
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
