//! What a deployment would be in the cluster, and what is otherwise there.

use serde_json::{Value, json};

use super::Kubernetes;
use super::difference::differences;
use super::object::{Kind, Object, is_ours};
use super::pull_secret;
use super::refusal::is_forbidden;
use crate::deployment::{Failure, Plan};
use crate::environment::Opened;

impl Kubernetes {
    /// The objects of an endpoint with these members, and how the cluster differs from them; neither
    /// shows what is in Secrets.
    ///
    /// # Errors
    /// When the cluster cannot be read.
    pub(crate) async fn plan(&self, members: &[Opened]) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        if let Some(secret) = self.pull_secret_of(members) {
            self.compare(&secret, &mut plan).await?;
            plan.objects.push(pull_secret::shown(secret));
        }
        for object in self.inner.shape.endpoint(members) {
            self.compare(&object, &mut plan).await?;
            plan.objects.push(shown(object));
        }
        Ok(plan)
    }

    /// The Secret by which the images of these members are pulled, without the login in it: another
    /// server may have put in one of its own.
    fn pull_secret_of(&self, members: &[Opened]) -> Option<Object> {
        let by_secret = |member: &&Opened| {
            let image = member.image.as_deref();
            image.is_some_and(|image| self.inner.shape.pulls_by_secret(image))
        };
        let first = members.iter().find(by_secret)?;
        Some(pull_secret::pull_secret(&first.order.namespace))
    }

    /// Puts into a plan how the cluster has an object otherwise.
    async fn compare(&self, object: &Object, plan: &mut Plan) -> Result<(), Failure> {
        let Object {
            kind,
            namespace,
            name,
            body,
        } = object;
        let what = format!("{} {namespace}/{name}", kind.as_str());
        let found = match self.api().await?.get(*kind, namespace, name).await {
            // The rest can be told all the same.
            Err(failure) if *kind == Kind::Secret && is_forbidden(&failure) => {
                let message = failure.problem.message;
                plan.unread.push(format!("{what}: {message}"));
                return Ok(());
            }
            found => found?,
        };
        let Some(found) = found else {
            plan.differences.push(format!("{what}: is not there"));
            return Ok(());
        };
        if !is_ours(&found) {
            plan.differences
                .push(format!("{what}: is there, and asgard did not make it"));
            return Ok(());
        }
        let is = serde_json::to_value(&found).unwrap_or_default();
        let differ = differences(body, &is).into_iter();
        plan.differences
            .extend(differ.map(|difference| format!("{what}: {difference}")));
        Ok(())
    }
}

/// An object as it is shown: of a Secret, what is in it and no value.
fn shown(mut object: Object) -> Value {
    let data = object.body.get_mut("data");
    if let Some(data) = data.and_then(Value::as_object_mut) {
        for value in data.values_mut() {
            *value = json!("***");
        }
    }
    object.body
}
