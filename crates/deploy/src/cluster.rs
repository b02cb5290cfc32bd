//! The `[deploy.kubernetes]` section of the configuration: the cluster of the target `kubernetes`.

use std::collections::BTreeMap;
use std::path::PathBuf;
#[cfg(feature = "kubernetes")]
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serving::ModelKey;
use web::Secret;

/// Which cluster models are deployed into, and how they are reached there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// The file that names the cluster and holds the credentials, as kubectl's.
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file; absent: its current one.
    pub context: Option<String>,
    /// Whether the server runs in the cluster and uses its pod's service account.
    pub in_cluster: bool,
    /// How deployed models are reached.
    pub service_type: ServiceType,
    /// The port of their addresses, but for node ports.
    pub service_port: u16,
    /// Annotations of their services, for a cloud's load balancers.
    pub service_annotations: BTreeMap<String, String>,
    /// The host of their addresses with `node_port`: a node, or what stands before the nodes.
    pub node_host: Option<String>,
    /// The host by which an Ingress leads to a model, with `{model}` and, if need be,
    /// `{namespace}`: `{model}.models.example.com`; absent: no Ingress.
    pub ingress_host: Option<String>,
    /// The class of these; absent: the cluster's default one.
    pub ingress_class: Option<String>,
    /// The secret with the certificate of these hosts; absent: no TLS.
    pub ingress_tls_secret: Option<String>,
    /// Names by which callers reach models beside those that asgard and the cluster give them.
    pub allowed_hosts: Vec<String>,
    /// Annotations of these Ingresses, for cert-manager or a controller.
    pub ingress_annotations: BTreeMap<String, String>,
    /// The secret by which nodes pull images; absent: one that asgard makes, or what the nodes have.
    pub pull_secret: Option<String>,
    /// Whether asgard makes one of its own login for `images.registry`, where none is named.
    pub make_pull_secret: bool,
    /// The service account of the pods, for a workload identity; absent: the namespace's default.
    pub service_account: Option<String>,
    /// The key that pods ask whoever wants a prediction for; absent: they ask for none.
    pub inference_key: Option<Secret>,
    /// Whether pods are fenced by a NetworkPolicy.
    pub network_policy: bool,
    /// Whether that lets pods call out; a model rarely has to.
    pub egress: bool,
    /// The port at which an image serves its model.
    pub container_port: u16,
    /// What a replica is given for certain, where the request does not say.
    pub memory_request_bytes: u64,
    /// The most that such a replica may take.
    pub memory_limit_bytes: u64,
    /// As for memory, in processors.
    pub cpus_request: f64,
    pub cpus_limit: f64,
    /// Whether a deployment ends only when its address has answered this server.
    pub probe: bool,
    /// How long an address may take to come and to answer, in seconds.
    pub address_timeout_s: u64,
    /// How long a fault that may pass, such as a refused pull of the image, is watched before the
    /// deployment fails of it, in seconds.
    pub fault_patience_s: u64,
    /// How long an API server that does not answer is asked again, in seconds.
    pub api_timeout_s: u64,
}

/// The kind of a model's service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceType {
    /// An address of its own, outside the cluster.
    #[default]
    LoadBalancer,
    /// A port on every node.
    NodePort,
    /// An address inside the cluster.
    ClusterIp,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            in_cluster: false,
            service_type: ServiceType::default(),
            service_port: 80,
            service_annotations: BTreeMap::new(),
            node_host: None,
            ingress_host: None,
            ingress_class: None,
            ingress_tls_secret: None,
            allowed_hosts: Vec::new(),
            ingress_annotations: BTreeMap::new(),
            pull_secret: None,
            make_pull_secret: true,
            service_account: None,
            inference_key: None,
            network_policy: true,
            egress: false,
            container_port: 8080,
            memory_request_bytes: 512 << 20,
            memory_limit_bytes: 1 << 30,
            cpus_request: 0.25,
            cpus_limit: 1.0,
            probe: true,
            address_timeout_s: 300,
            fault_patience_s: 30,
            api_timeout_s: 60,
        }
    }
}

impl Cluster {
    /// Whether there is a cluster at all.
    pub fn is_set(&self) -> bool {
        self.in_cluster || self.kubeconfig.is_some()
    }

    /// What cannot be meant.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let ingress = self.ingress_host.as_deref();
        if ingress.is_some_and(|host| !host.contains("{model}")) {
            return Some(
                "deploy.kubernetes.ingress_host must contain {model}: each model has a host of its own",
            );
        }
        let key = self.inference_key.as_ref().map(Secret::expose);
        if key.is_some_and(|key| key.chars().count() < ModelKey::SHORTEST) {
            return Some(
                "deploy.kubernetes.inference_key must have at least 32 characters, and be random: openssl rand -hex 32",
            );
        }
        if self.is_set() && cfg!(not(feature = "kubernetes")) {
            return Some(
                "deploy.kubernetes is set, but this program was built without the feature kubernetes",
            );
        }
        if self.is_set() && self.service_type == ServiceType::NodePort && self.node_host.is_none() {
            return Some(
                "deploy.kubernetes.service_type is node_port, so node_host must name a node or what stands before the nodes",
            );
        }
        None
    }

    #[cfg(feature = "kubernetes")]
    pub(crate) fn address_timeout(&self) -> Duration {
        Duration::from_secs(self.address_timeout_s)
    }

    #[cfg(feature = "kubernetes")]
    pub(crate) fn fault_patience(&self) -> Duration {
        Duration::from_secs(self.fault_patience_s)
    }

    #[cfg(feature = "kubernetes")]
    pub(crate) fn api_timeout(&self) -> Duration {
        Duration::from_secs(self.api_timeout_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_meant_are_told() {
        let mut cluster = Cluster::default();
        assert!(!cluster.is_set() && cluster.fault().is_none());
        cluster.in_cluster = true;
        cluster.service_type = ServiceType::NodePort;
        assert!(cluster.fault().unwrap().contains("node_host"));
        cluster.node_host = Some("node.example".to_owned());
        assert_eq!(cluster.fault(), None);
        cluster.inference_key = Some("too short".to_owned().into());
        assert!(cluster.fault().unwrap().contains("32 characters"));
        cluster.inference_key = Some("0123456789abcdef".repeat(2).into());
        assert_eq!(cluster.fault(), None);
        cluster.ingress_host = Some("models.example.com".to_owned());
        assert!(cluster.fault().unwrap().contains("{model}"));
    }
}
