//! The `[server]` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use web::Secret;

/// Where asgard keeps its data, where it listens, and what it writes to its log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The data directory; absent: `$XDG_DATA_HOME/asgard`, which is `~/.local/share/asgard`.
    pub data_dir: Option<PathBuf>,
    /// The address to listen on, `HOST:PORT`.
    pub listen: String,
    /// A second address that answers the same routes, for clients that expect MLflow at port 5000.
    pub mlflow_listen: Option<String>,
    /// The address under which callers reach the server, when it stands behind a proxy.
    pub url: Option<String>,
    /// Host names that requests may name, besides loopback and the listening address; `*` is any.
    pub allowed_hosts: Vec<String>,
    /// Lets everyone who reaches a public address do everything. For closed networks only.
    pub insecure_allow_anonymous: bool,
    /// The key that secrets in the database are sealed with (the variables of jobs, the secrets of
    /// webhooks), 64 hexadecimal digits; the same for all servers on one database. Absent:
    /// `secrets.key` in the data directory, made at the first start.
    pub secret_key: Option<Secret>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as
    /// `info,jobs=debug`.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// How long requests under way may take to end when the server stops, in milliseconds.
    pub stop_timeout_ms: u64,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: None,
            listen: "127.0.0.1:8000".to_owned(),
            mlflow_listen: None,
            url: None,
            allowed_hosts: Vec::new(),
            insecure_allow_anonymous: false,
            secret_key: None,
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
            stop_timeout_ms: 10_000,
        }
    }
}
