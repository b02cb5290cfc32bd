//! What leads requests to the deployments of an endpoint: a Service, an Ingress where there are
//! host names, and the NetworkPolicy that lets in what they serve and nothing else.

use serde_json::{Map, Value, json};

use super::{DEPLOYMENT, ENDPOINT, Shape, endpoint_labels, endpoint_name, object};
use crate::cluster::ServiceType;
use crate::deployment::Deployment;
use crate::environment::Opened;
use crate::kubernetes::object::{Kind, Object};

impl Shape {
    /// The objects before the members of an endpoint.
    pub(super) fn reach(&self, members: &[Opened]) -> Vec<Object> {
        let Some(first) = members.first() else {
            return Vec::new();
        };
        let mut objects = vec![self.service(first, members)];
        objects.extend(self.ingress(first));
        objects.extend(self.network_policy(first));
        objects
    }

    /// The Service. With one member it selects that one's pods alone, so that pods on their way
    /// get no requests; several share by the numbers of their pods.
    fn service(&self, first: &Deployment, members: &[Opened]) -> Object {
        let selector = match members {
            [only] => json!({ DEPLOYMENT: only.id }),
            _ => json!({ ENDPOINT: endpoint_name(&first.order.model_name) }),
        };
        let kind = match self.service_type() {
            ServiceType::LoadBalancer => "LoadBalancer",
            ServiceType::NodePort => "NodePort",
            ServiceType::ClusterIp => "ClusterIP",
        };
        let spec = json!({
            "type": kind,
            "selector": selector,
            "ports": [{ "name": "http", "port": self.cluster.service_port, "protocol": "TCP", "targetPort": "http" }],
        });
        let annotations = annotations(&self.cluster.service_annotations);
        shared(Kind::Service, first, annotations, spec)
    }

    /// With an Ingress the address is that one's, and the Service stays inside.
    pub(super) fn service_type(&self) -> ServiceType {
        match &self.cluster.ingress_host {
            Some(_) => ServiceType::ClusterIp,
            None => self.cluster.service_type,
        }
    }

    fn ingress(&self, first: &Deployment) -> Option<Object> {
        let host = self.host(first)?;
        let name = endpoint_name(&first.order.model_name);
        let backend = json!({ "service": { "name": name, "port": { "name": "http" } } });
        let mut spec = json!({
            "rules": [{
                "host": host,
                "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
            }],
        });
        if let Some(class) = &self.cluster.ingress_class {
            spec["ingressClassName"] = json!(class);
        }
        if let Some(secret) = &self.cluster.ingress_tls_secret {
            spec["tls"] = json!([{ "hosts": [host], "secretName": secret }]);
        }
        let annotations = annotations(&self.cluster.ingress_annotations);
        Some(shared(Kind::Ingress, first, annotations, spec))
    }

    /// The host of an endpoint's Ingress.
    pub(in crate::kubernetes) fn host(&self, deployment: &Deployment) -> Option<String> {
        let order = &deployment.order;
        let host = self.cluster.ingress_host.as_ref()?;
        let name = endpoint_name(&order.model_name);
        Some(
            host.replace("{model}", &name)
                .replace("{namespace}", &order.namespace),
        )
    }

    /// The names that the pods of an endpoint answer to, beside addresses: with other ones a page of
    /// another site could lead its readers' browsers to them (DNS rebinding). A cloud chooses the names
    /// of its load balancers afterwards.
    pub(super) fn names(&self, deployment: &Deployment) -> Vec<String> {
        if self.service_type() == ServiceType::LoadBalancer {
            return vec!["*".to_owned()];
        }
        let namespace = &deployment.order.namespace;
        let name = endpoint_name(&deployment.order.model_name);
        let mut names: Vec<String> = ["", ".svc", ".svc.cluster.local"]
            .map(|end| format!("{name}.{namespace}{end}"))
            .into();
        names.push(name);
        names.extend(self.host(deployment));
        names.extend(self.cluster.node_host.clone());
        names.extend(self.cluster.allowed_hosts.iter().cloned());
        names
    }

    fn network_policy(&self, first: &Deployment) -> Option<Object> {
        if !self.cluster.network_policy {
            return None;
        }
        let egress = if self.cluster.egress {
            json!([{}])
        } else {
            json!([])
        };
        let spec = json!({
            "podSelector": { "matchLabels": { ENDPOINT: endpoint_name(&first.order.model_name) } },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "ports": [{ "port": "http", "protocol": "TCP" }] }],
            "egress": egress,
        });
        Some(shared(Kind::NetworkPolicy, first, Map::new(), spec))
    }
}

fn annotations(settings: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    let pairs = settings.iter();
    pairs
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect()
}

fn shared(kind: Kind, first: &Deployment, annotations: Map<String, Value>, spec: Value) -> Object {
    let order = &first.order;
    let name = endpoint_name(&order.model_name);
    object(
        kind,
        &order.namespace,
        name,
        endpoint_labels(first),
        annotations,
        json!({ "spec": spec }),
    )
}
