//! The address of an endpoint: where the cluster says that it is, once it answers there.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::Kubernetes;
use super::object::Kind;
use super::objects::endpoint_name;
use crate::Deployments;
use crate::cluster::ServiceType;
use crate::deployment::{Deployment, Failure, Fault};
use crate::environment::Opened;
use crate::log::PLATFORM;

/// How often an address is looked for, and then asked.
const LOOK: Duration = Duration::from_millis(500);
/// How long one request to it may take.
const REQUEST: Duration = Duration::from_secs(10);

impl Kubernetes {
    /// Waits until an endpoint has an address and answers there.
    pub(super) async fn address(
        &self,
        deployments: &Deployments,
        told: &str,
        members: &[Opened],
    ) -> Result<String, Failure> {
        let Some(first) = members.first() else {
            return Err(no_address("", "", 0, None));
        };
        let late = Instant::now() + self.inner.config.address_timeout();
        let url = match self.look_for(first).await? {
            Some(url) => url,
            None => {
                let line = "waiting: the cluster gives the service no address yet".to_owned();
                deployments.say(told, PLATFORM, vec![line]).await;
                self.wait_for(first, late).await?
            }
        };
        if self.inner.config.probe {
            self.probe(&url, late).await?;
            if self.inner.config.inference_key.is_some() {
                self.find_closed(&url, late).await?;
            }
        }
        Ok(url)
    }

    async fn wait_for(&self, first: &Deployment, late: Instant) -> Result<String, Failure> {
        loop {
            if let Some(url) = self.look_for(first).await? {
                return Ok(url);
            }
            if Instant::now() >= late {
                let namespace = &first.order.namespace;
                let name = endpoint_name(&first.order.model_name);
                let api = self.api().await?;
                let said = api.last_event(Kind::Service, namespace, &name).await;
                let seconds = self.inner.config.address_timeout_s;
                return Err(no_address(namespace, &name, seconds, said));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look_for(&self, first: &Deployment) -> Result<Option<String>, Failure> {
        let config = &self.inner.config;
        if let Some(host) = self.inner.shape.host(first) {
            let scheme = if config.ingress_tls_secret.is_some() {
                "https"
            } else {
                "http"
            };
            return Ok(Some(format!("{scheme}://{host}")));
        }
        let namespace = &first.order.namespace;
        let name = endpoint_name(&first.order.model_name);
        let service = self
            .api()
            .await?
            .get(Kind::Service, namespace, &name)
            .await?;
        Ok(match (config.service_type, service) {
            (_, None) => None,
            (ServiceType::ClusterIp, Some(_)) => {
                Some(url(&format!("{name}.{namespace}.svc"), config.service_port))
            }
            (ServiceType::NodePort, Some(service)) => {
                let host = config.node_host.as_deref().unwrap_or_default();
                node_port(&service.data).map(|port| url(host, port))
            }
            (ServiceType::LoadBalancer, Some(service)) => {
                balancer(&service.data).map(|host| url(&host, config.service_port))
            }
        })
    }

    /// Asks an address without the key until it refuses: an image that knows of no key would answer
    /// everyone. Pods that are about to be replaced may still do so.
    async fn find_closed(&self, url: &str, late: Instant) -> Result<(), Failure> {
        let client = client().map_err(|e| silent(url, &e.to_string()))?;
        let patience = Instant::now() + self.inner.config.fault_patience();
        loop {
            let asked = client.get(format!("{url}/metadata")).send().await;
            let problem = match asked {
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => return Ok(()),
                Ok(answer) if answer.status().is_success() && Instant::now() >= patience => {
                    return Err(open(url));
                }
                Ok(answer) => format!("it answers {}", answer.status()),
                Err(error) => error.without_url().to_string(),
            };
            if Instant::now() >= late {
                return Err(silent(url, &problem));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks an address until it answers.
    async fn probe(&self, url: &str, late: Instant) -> Result<(), Failure> {
        let client = client().map_err(|e| silent(url, &e.to_string()))?;
        loop {
            let asked = client.get(format!("{url}/health")).send().await;
            let problem = match asked {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("it answers {}", answer.status()),
                Err(error) => error.without_url().to_string(),
            };
            if Instant::now() >= late {
                return Err(silent(url, &problem));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().timeout(REQUEST).build()
}

/// The host name or address that a load balancer got: an entry without either is none.
fn balancer(service: &Value) -> Option<String> {
    let entries = service
        .pointer("/status/loadBalancer/ingress")?
        .as_array()?;
    entries.iter().find_map(|entry| {
        let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
        text("hostname").or(text("ip")).map(str::to_owned)
    })
}

fn node_port(service: &Value) -> Option<u16> {
    let port = service.pointer("/spec/ports/0/nodePort")?.as_u64()?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

fn url(host: &str, port: u16) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match port {
        80 => format!("http://{host}"),
        port => format!("http://{host}:{port}"),
    }
}

fn no_address(namespace: &str, name: &str, seconds: u64, said: Option<String>) -> Failure {
    let said = said.map(|said| format!("; the cluster said: {said}"));
    Failure::new(
        Fault::Outside,
        "load_balancer_pending",
        "No external address",
        format!(
            "the service {namespace}/{name} got no external address within {seconds} s{}",
            said.unwrap_or_default()
        ),
        Some("a cluster gives addresses only with a load balancer controller (a cloud's own, or MetalLB); else set deploy.kubernetes.service_type to node_port with node_host, or ingress_host".to_owned()),
    )
}

fn open(url: &str) -> Failure {
    Failure::new(
        Fault::Outside,
        "address_open",
        "The model answers without the key",
        format!("deploy.kubernetes.inference_key is set, but {url} answers a request without it"),
        Some("the image is of an asgard that knew of no key, or holds another server: deploy the model without 'image', or leave the setting out and have a gateway ask for credentials".to_owned()),
    )
}

fn silent(url: &str, problem: &str) -> Failure {
    Failure::new(
        Fault::Outside,
        "address_silent",
        "The address does not answer",
        format!("the pods are ready, but {url} does not answer this server: {problem}"),
        Some("check firewalls, DNS and the Ingress controller; where this server cannot reach the address but callers can, set deploy.kubernetes.probe = false".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_list_is_no_address() {
        let with = |ingress: Value| json!({ "status": { "loadBalancer": { "ingress": ingress } } });
        assert_eq!(balancer(&json!({})), None);
        assert_eq!(balancer(&with(json!([]))), None);
        assert_eq!(balancer(&with(json!([{ "ip": "" }]))), None);
        assert_eq!(
            balancer(&with(json!([{ "ip": "10.0.0.1" }]))).unwrap(),
            "10.0.0.1"
        );
        let named = with(json!([{ "hostname": "lb.example", "ip": "10.0.0.1" }]));
        assert_eq!(balancer(&named).unwrap(), "lb.example");
        assert_eq!(url("fd00::1", 8080), "http://[fd00::1]:8080");
        assert_eq!(url("lb.example", 80), "http://lb.example");
        assert_eq!(
            node_port(&json!({ "spec": { "ports": [{ "port": 80 }] } })),
            None
        );
    }
}
