//! The `[feature_store]` section of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws::AwsVariables;
use serde::{Deserialize, Serialize};

use crate::catalog::CatalogConfig;

/// The largest file of an import where the configuration names no limit, in bytes.
pub(crate) const IMPORT_LIMIT_BYTES: u64 = 16 << 30;

/// Where feature tables are, and how their values are served.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Iceberg catalogs by the name that feature views call them. Besides these there is always
    /// `iceberg`, a SQL catalog on SQLite in the data directory, unless that name is given here.
    pub catalogs: BTreeMap<String, CatalogConfig>,
    /// Where online values are kept.
    pub online: OnlineStore,
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`, where `online` is `redis`; `rediss://` with TLS.
    pub redis_url: Option<String>,
    /// Certificates in PEM form that a `rediss://` server is trusted by; absent: those of the system.
    pub redis_ca_file: Option<PathBuf>,
    /// What the names of its keys begin with, which asgards of one Redis server must not share;
    /// absent: `asgard`. With a part in braces all keys are in one slot.
    pub redis_prefix: Option<String>,
    /// How long one operation of the Redis server may take, in milliseconds; absent: 2000.
    pub redis_timeout_ms: Option<u64>,
    /// How the functions of on-demand feature views run.
    pub on_demand: OnDemandConfig,
    /// Whether online reads leave out values that are older than their view's ttl. Feast's own
    /// servers answer them.
    pub enforce_ttl: bool,
    /// The largest file that one import may bring, in bytes; absent: 16 GiB.
    pub import_limit_bytes: Option<u64>,
    /// The `AWS_*` variables of the server's environment; set by the binary.
    #[serde(skip)]
    pub aws: AwsVariables,
}

/// How the functions of on-demand feature views run: each in a sandboxed worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnDemandConfig {
    /// Packages beside dill, numpy, pandas and pyarrow.
    pub requirements: Vec<String>,
    /// The version of Python; absent: that of training jobs.
    pub python: Option<String>,
    /// How long one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// The most memory that one worker may use, in bytes.
    pub memory_bytes: u64,
    /// The most workers; an idle one that nobody asked for longest is stopped for another, and while
    /// all are at work, calls wait.
    pub max_workers: usize,
    /// A worker that nobody asked for this long is stopped, in seconds.
    pub idle_timeout_s: u64,
}

impl Default for OnDemandConfig {
    fn default() -> Self {
        Self {
            requirements: Vec::new(),
            python: None,
            timeout_ms: 30_000,
            memory_bytes: 2 << 30,
            max_workers: 4,
            idle_timeout_s: 600,
        }
    }
}

/// Where online values are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlineStore {
    /// In memory, with a durable copy in the data directory: for one server.
    #[default]
    Local,
    /// In asgard's PostgreSQL database, which several servers share.
    Postgres,
    /// In a store of the Redis protocol, which several servers share.
    Redis,
}
