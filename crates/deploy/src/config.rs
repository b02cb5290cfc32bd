//! The `[deploy]` section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::deployment::Target;

/// Where deployed models run and are reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address at which deployments on this machine listen.
    pub listen_host: String,
    /// The host in their URLs; absent: `listen_host`.
    pub url_host: Option<String>,
    /// The first of the ports that they get.
    pub first_port: u16,
    /// The last of the ports that they get.
    pub last_port: u16,
    /// The replicas of a deployment that names no number.
    pub replicas: u32,
    /// The memory of one replica that asks for none, in bytes; absent: what the sandbox allows.
    pub memory_default_bytes: Option<u64>,
    /// How long a request to deploy is held before it is answered with 202, in seconds.
    pub wait_timeout_s: u64,
    /// How long a replica may take to its first answer, in seconds.
    pub start_timeout_s: u64,
    /// How long a request to a deployed model may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a removed deployment and its log are kept, in days; 0: for ever.
    pub keep_removed_days: u32,
    /// The cluster of the target `kubernetes`.
    pub kubernetes: Cluster,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen_host: "127.0.0.1".to_owned(),
            url_host: None,
            first_port: 8100,
            last_port: 8199,
            replicas: 2,
            memory_default_bytes: None,
            wait_timeout_s: 3_600,
            start_timeout_s: 180,
            request_timeout_ms: 60_000,
            keep_removed_days: 30,
            kubernetes: Cluster::default(),
        }
    }
}

/// The most replicas of a deployment.
pub(crate) const REPLICAS_MAX: u32 = 10;

impl Config {
    /// Where a deployment runs that does not say.
    pub(crate) fn target(&self) -> Target {
        if self.kubernetes.is_set() {
            Target::Kubernetes
        } else {
            Target::Local
        }
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        Duration::from_secs(self.wait_timeout_s)
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_secs(self.start_timeout_s)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// The URL of a deployment at a port.
    pub(crate) fn url(&self, port: u16) -> String {
        let host = self.url_host.as_deref().unwrap_or(&self.listen_host);
        let host = match host {
            // An unspecified address is no address to call.
            "0.0.0.0" | "::" | "[::]" => "127.0.0.1",
            host => host,
        };
        format!("http://{host}:{port}")
    }
}
