//! What a deployment would be in the cluster, and what is otherwise there.

use super::Kubernetes;
use super::difference::differences;
use super::object::{Object, is_ours};
use super::pull_secret;
use crate::deployment::{Deployment, Failure, Plan};
use crate::environment::Environment;

impl Kubernetes {
    /// The objects of an endpoint with these members, and how the cluster differs from them; neither
    /// shows a value that may be a secret.
    ///
    /// # Errors
    /// When the cluster cannot be read.
    pub(crate) async fn plan(&self, members: &[Deployment]) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        if let Some(secret) = self.pull_secret_of(members) {
            plan.differences.extend(self.compare(&secret).await?);
            plan.objects.push(pull_secret::shown(secret));
        }
        for object in self.inner.shape.endpoint(members) {
            plan.differences.extend(self.compare(&object).await?);
        }
        let shown: Vec<Deployment> = members.iter().map(shown).collect();
        let objects = self.inner.shape.endpoint(&shown).into_iter();
        plan.objects.extend(objects.map(|object| object.body));
        Ok(plan)
    }

    /// The Secret by which the images of these members are pulled, without the login in it: another
    /// server may have put in one of its own.
    fn pull_secret_of(&self, members: &[Deployment]) -> Option<Object> {
        let by_secret = |member: &&Deployment| {
            let image = member.image.as_deref();
            image.is_some_and(|image| self.inner.shape.pulls_by_secret(image))
        };
        let first = members.iter().find(by_secret)?;
        Some(pull_secret::pull_secret(&first.order.namespace))
    }

    async fn compare(&self, object: &Object) -> Result<Vec<String>, Failure> {
        let Object {
            kind,
            namespace,
            name,
            body,
        } = object;
        let what = format!("{} {namespace}/{name}", kind.as_str());
        let found = self.api().await?.get(*kind, namespace, name).await?;
        let Some(found) = found else {
            return Ok(vec![format!("{what}: is not there")]);
        };
        if !is_ours(&found) {
            return Ok(vec![format!(
                "{what}: is there, and asgard did not make it"
            )]);
        }
        let is = serde_json::to_value(&found).unwrap_or_default();
        let differ = differences(body, &is).into_iter();
        Ok(differ
            .map(|difference| format!("{what}: {difference}"))
            .collect())
    }
}

/// A deployment without the values that may be secrets.
fn shown(deployment: &Deployment) -> Deployment {
    let mut shown = deployment.clone();
    let variables = deployment.order.environment.variables();
    shown.order.environment = Environment::Plain(jobs::redact_variables(&variables));
    shown
}
