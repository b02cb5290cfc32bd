//! What runs one deployment: a Deployment, its disruption budget, and its autoscaler if it has one.

use serde_json::{Map, Value, json};
use serving::ModelKey;

use super::{DEPLOYMENT, Shape, deployment_labels, object, object_map, variables, workload_name};
use crate::deployment::Deployment;
use crate::environment::Opened;
use crate::kubernetes::object::{Kind, Object};
use crate::kubernetes::pull_secret;

impl Shape {
    /// The Deployment. Where an autoscaler owns the number of pods, it names none.
    pub(super) fn deployment(&self, deployment: &Opened, image: &str, pods: u32) -> Object {
        let mut spec = json!({
            "progressDeadlineSeconds": self.start_timeout_s,
            "revisionHistoryLimit": 1,
            "selector": { "matchLabels": { DEPLOYMENT: deployment.id } },
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 },
            },
            "template": {
                "metadata": { "labels": deployment_labels(deployment) },
                "spec": self.pod(deployment, image),
            },
        });
        if deployment.order.autoscale.is_none() {
            spec["replicas"] = json!(pods);
        }
        let annotations = object_map(json!({
            "asgard/model": deployment.order.model_name,
            "asgard/model-version": deployment.model_version.unwrap_or_default().to_string(),
            "asgard/run": deployment.run_id.clone().unwrap_or_default(),
        }));
        let content = json!({ "spec": spec });
        own(Kind::Deployment, deployment, annotations, content)
    }

    fn pod(&self, deployment: &Opened, image: &str) -> Value {
        let mut pod = json!({
            "automountServiceAccountToken": false,
            "containers": [self.container(deployment, image)],
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            // What is being answered when a pod is told to end may take its time.
            "terminationGracePeriodSeconds": self.request_timeout_s + 10,
            "topologySpreadConstraints": [{
                "labelSelector": { "matchLabels": { DEPLOYMENT: deployment.id } },
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
            }],
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        });
        let made = self.pulls_by_secret(image).then_some(pull_secret::NAME);
        if let Some(secret) = self.cluster.pull_secret.as_deref().or(made) {
            pod["imagePullSecrets"] = json!([{ "name": secret }]);
        }
        if let Some(account) = &self.cluster.service_account {
            pod["serviceAccountName"] = json!(account);
        }
        pod
    }

    fn container(&self, deployment: &Opened, image: &str) -> Value {
        let health = json!({ "path": "/health", "port": "http" });
        let mut env = vec![
            json!({ "name": "HOME", "value": "/tmp" }),
            json!({ "name": "ASGARD__SERVER__ALLOWED_HOSTS", "value": self.names(deployment).join(",") }),
        ];
        env.extend(variables::entries(deployment));
        if let Some(key) = &self.cluster.inference_key {
            let (name, value) = ModelKey::of(key.expose()).to_environment();
            env.push(json!({ "name": name, "value": value }));
        }
        json!({
            "name": "model",
            "image": image,
            "env": env,
            "ports": [{ "name": "http", "containerPort": self.cluster.container_port, "protocol": "TCP" }],
            "resources": self.resources(deployment),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
            },
            "startupProbe": {
                "httpGet": health, "periodSeconds": 1, "timeoutSeconds": 5,
                "failureThreshold": self.start_timeout_s,
            },
            "readinessProbe": { "httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2 },
            "livenessProbe": { "httpGet": health, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6 },
            "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
        })
    }

    /// What was asked for is given for certain and is the most.
    fn resources(&self, deployment: &Deployment) -> Value {
        let cluster = &self.cluster;
        let memory = deployment.order.memory_bytes.map(|bytes| (bytes, bytes));
        let memory = memory.unwrap_or((cluster.memory_request_bytes, cluster.memory_limit_bytes));
        let cpus = deployment.order.cpus.map(|cpus| (cpus, cpus));
        let cpus = cpus.unwrap_or((cluster.cpus_request, cluster.cpus_limit));
        json!({
            "requests": { "memory": bytes(memory.0), "cpu": processors(cpus.0) },
            "limits": { "memory": bytes(memory.1), "cpu": processors(cpus.1) },
        })
    }
}

/// How many pods may be taken away at once, when nodes are emptied.
pub(super) fn disruption_budget(deployment: &Deployment) -> Object {
    let spec = json!({
        "maxUnavailable": 1,
        "selector": { "matchLabels": { DEPLOYMENT: deployment.id } },
    });
    let content = json!({ "spec": spec });
    own(Kind::PodDisruptionBudget, deployment, Map::new(), content)
}

pub(super) fn autoscaler(deployment: &Deployment) -> Option<Object> {
    let autoscale = deployment.order.autoscale?;
    let order = &deployment.order;
    let spec = json!({
        "scaleTargetRef": {
            "apiVersion": Kind::Deployment.api_version(),
            "kind": Kind::Deployment.as_str(),
            "name": workload_name(&order.model_name, &deployment.id),
        },
        "minReplicas": autoscale.min_replicas,
        "maxReplicas": autoscale.max_replicas,
        "metrics": [{
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": { "type": "Utilization", "averageUtilization": autoscale.cpu_percent },
            },
        }],
    });
    Some(own(
        Kind::HorizontalPodAutoscaler,
        deployment,
        Map::new(),
        json!({ "spec": spec }),
    ))
}

/// An object of one deployment.
pub(super) fn own(
    kind: Kind,
    deployment: &Deployment,
    annotations: Map<String, Value>,
    content: Value,
) -> Object {
    let order = &deployment.order;
    let name = workload_name(&order.model_name, &deployment.id);
    let labels = deployment_labels(deployment);
    object(kind, &order.namespace, name, labels, annotations, content)
}

/// An amount of memory as the API server writes it back.
fn bytes(bytes: u64) -> String {
    for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A number of processors as the API server writes it back.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 1024 processors, checked at the door"
)]
fn processors(cpus: f64) -> String {
    let thousandths = (cpus * 1000.0).round().max(1.0) as u64;
    if thousandths.is_multiple_of(1000) {
        (thousandths / 1000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_the_api_server_writes_them() {
        assert_eq!(bytes(512 << 20), "512Mi");
        assert_eq!(bytes(2 << 30), "2Gi");
        assert_eq!(bytes(2_000_000_000), "1953125Ki");
        assert_eq!(bytes(1001), "1001");
        assert_eq!(processors(1.0), "1");
        assert_eq!(processors(0.25), "250m");
        assert_eq!(processors(1.5), "1500m");
    }
}
