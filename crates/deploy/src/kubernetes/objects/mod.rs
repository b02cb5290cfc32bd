//! The objects of deployments and endpoints, made from rows and settings alone.

mod name;
mod reach;
mod variables;
mod workload;

use serde_json::{Map, Value, json};

use super::object::{Kind, MANAGED_BY, MANAGER, Object};
use super::shares;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::deployment::Deployment;
use crate::environment::Opened;
use crate::pull::PullLogin;

pub(super) use name::{endpoint_name, workload_name};
use workload::{autoscaler, disruption_budget};

/// The label of everything of an endpoint, and that of everything of one deployment.
const ENDPOINT: &str = "asgard/endpoint";
const DEPLOYMENT: &str = "asgard/deployment";

/// The settings that shape objects.
pub(super) struct Shape {
    cluster: Cluster,
    start_timeout_s: u64,
    request_timeout_s: u64,
    /// Whose images are pulled by a Secret that asgard makes.
    pull: Option<PullLogin>,
}

impl Shape {
    pub(super) fn new(config: &Config, pull: Option<PullLogin>) -> Self {
        Self {
            cluster: config.kubernetes.clone(),
            start_timeout_s: config.start_timeout_s,
            request_timeout_s: config.request_timeout_ms.div_ceil(1_000),
            pull,
        }
    }

    /// Whether an image is pulled by a Secret that asgard makes.
    pub(super) fn pulls_by_secret(&self, image: &str) -> bool {
        let pull = self.pull.as_ref();
        pull.is_some_and(|pull| pull.is_for(image))
    }

    /// The objects of one deployment with this many pods.
    pub(super) fn workload(&self, deployment: &Opened, image: &str, pods: u32) -> Vec<Object> {
        // Before the pods that begin with it.
        let mut objects: Vec<Object> = variables::secret(deployment).into_iter().collect();
        objects.push(self.deployment(deployment, image, pods));
        objects.push(disruption_budget(deployment));
        objects.extend(autoscaler(deployment));
        objects
    }

    /// Everything of an endpoint: the deployments that share it, each with its pods, then what
    /// leads requests to them. The members stand with the shares that they should have.
    pub(super) fn endpoint(&self, members: &[Opened]) -> Vec<Object> {
        let wanted: Vec<_> = members.iter().map(|m| (m.replicas, m.traffic)).collect();
        let pods = shares::pods(&wanted);
        let mut objects = Vec::new();
        for (member, pods) in members.iter().zip(pods) {
            let image = member.image.as_deref().unwrap_or_default();
            objects.extend(self.workload(member, image, pods));
        }
        objects.extend(self.reach(members));
        objects
    }
}

/// The kinds of a deployment's own objects, but for the Secret that not all have, and those of its
/// endpoint's, as they are removed.
pub(super) const WORKLOAD: [Kind; 3] = [
    Kind::HorizontalPodAutoscaler,
    Kind::PodDisruptionBudget,
    Kind::Deployment,
];
pub(super) const REACH: [Kind; 3] = [Kind::Ingress, Kind::Service, Kind::NetworkPolicy];

/// The labels of an endpoint's objects.
fn endpoint_labels(deployment: &Deployment) -> Map<String, Value> {
    let labels = json!({
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/component": "model",
        ENDPOINT: endpoint_name(&deployment.order.model_name),
    });
    object_map(labels)
}

/// The labels of one deployment's objects and pods.
fn deployment_labels(deployment: &Deployment) -> Map<String, Value> {
    let mut labels = endpoint_labels(deployment);
    labels.insert(DEPLOYMENT.to_owned(), json!(deployment.id));
    labels
}

/// What tells one deployment's pods from all others.
pub(super) fn pods_selector(deployment_id: &str) -> String {
    format!("{DEPLOYMENT}={deployment_id}")
}

fn object_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// An object of a kind: what every object has, and its content.
fn object(
    kind: Kind,
    namespace: &str,
    name: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    content: Value,
) -> Object {
    let mut metadata = json!({ "name": name, "namespace": namespace, "labels": labels });
    if !annotations.is_empty() {
        metadata["annotations"] = Value::Object(annotations);
    }
    let mut body = object_map(content);
    body.insert("apiVersion".to_owned(), json!(kind.api_version()));
    body.insert("kind".to_owned(), json!(kind.as_str()));
    body.insert("metadata".to_owned(), metadata);
    Object {
        kind,
        namespace: namespace.to_owned(),
        name,
        body: Value::Object(body),
    }
}

#[cfg(test)]
mod tests;
