//! The `[webhooks]` section of the configuration.

use serde::{Deserialize, Serialize};
use web::Secret;

/// Where webhooks may lead, and how patiently they are delivered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Lets webhooks lead to loopback, private and link-local addresses: whoever may make webhooks
    /// reaches what this server reaches.
    pub allow_private_addresses: bool,
    /// Lets webhooks lead to `http://` addresses, where anybody on the way reads them.
    pub allow_http: bool,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// How often a delivery is tried before it has failed.
    pub max_attempts: u32,
    /// How long the second attempt waits, in milliseconds; each later one waits twice as long.
    pub backoff_ms: u64,
    /// How many days ended deliveries are kept.
    pub keep_days: u32,
    /// The earlier name of `server.secret_key`.
    pub secret_key: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_private_addresses: false,
            allow_http: false,
            timeout_ms: 30_000,
            max_attempts: 8,
            backoff_ms: 1_000,
            keep_days: 30,
            secret_key: None,
        }
    }
}
