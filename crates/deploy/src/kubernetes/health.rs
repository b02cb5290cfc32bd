//! How live deployments are, looked at now and then.

use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::cause::cause;
use super::objects::workload_name;
use super::rollout::ready;
use super::{Kubernetes, lock};
use crate::deployment::{Deployment, Failure, Fault, Health};
use crate::environment::Opened;

/// How often.
const LOOK: Duration = Duration::from_secs(3);

impl Kubernetes {
    /// How a live deployment was found at the last look.
    pub(crate) fn health(&self, deployment_id: &str) -> Option<Health> {
        lock(&self.inner.healths).get(deployment_id).cloned()
    }

    /// Looks at these deployments, unless that was done just now.
    pub(super) fn look_after(&self, live: &[Opened], tasks: &TaskTracker) {
        {
            let mut looked = lock(&self.inner.looked);
            if live.is_empty() || looked.is_some_and(|at| at.elapsed() < LOOK) {
                return;
            }
            *looked = Some(Instant::now());
        }
        let (kubernetes, live) = (self.clone(), live.to_vec());
        tasks.spawn(async move {
            for deployment in &live {
                let health = kubernetes.look_at(deployment).await;
                let health = health.unwrap_or_else(|failure| Health {
                    ready: 0,
                    failure: Some(failure),
                });
                lock(&kubernetes.inner.healths).insert(deployment.id.clone(), health);
            }
            let mut healths = lock(&kubernetes.inner.healths);
            healths.retain(|id, _| live.iter().any(|deployment| deployment.id == *id));
            drop(healths);
            *lock(&kubernetes.inner.looked) = Some(Instant::now());
        });
    }

    async fn look_at(&self, deployment: &Deployment) -> Result<Health, Failure> {
        let api = self.api().await?;
        let order = &deployment.order;
        let name = workload_name(&order.model_name, &deployment.id);
        let Some(found) = api.deployment(&order.namespace, &name).await? else {
            // What was applied is not there any more: it is made anew.
            let key = (order.namespace.clone(), order.model_name.clone());
            if let Some(known) = lock(&self.inner.endpoints).get_mut(&key) {
                known.forget();
            }
            return Err(missing(&order.namespace, &name));
        };
        let ready = ready(&found);
        let wanted = found
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let short = ready < usize::try_from(wanted).unwrap_or_default();
        let cause = match short {
            true => cause(&found, &api.pods(&order.namespace, &deployment.id).await?),
            false => None,
        };
        let failure = cause.map(|cause| {
            let title = "Pods are not ready";
            Failure::new(
                Fault::Outside,
                cause.code,
                title,
                cause.message,
                Some(cause.help),
            )
        });
        Ok(Health { ready, failure })
    }
}

fn missing(namespace: &str, name: &str) -> Failure {
    Failure::new(
        Fault::Outside,
        "removed_in_cluster",
        "Removed in the cluster",
        format!("the Deployment {namespace}/{name} is not there: somebody removed it"),
        Some("it is made anew; remove deployments by asgard: asgard deployments rm ID".to_owned()),
    )
}
