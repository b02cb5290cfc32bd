//! The `[serving]` section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many models are kept ready, and how long a request may take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The most memory that all model workers may hold together, in bytes; absent: half of the
    /// machine's. Least recently used models are stopped beyond it.
    pub memory_bytes: Option<u64>,
    /// The most models that are kept ready.
    pub max_models: usize,
    /// A model that nobody asked for this long is stopped, in seconds.
    pub idle_timeout_s: u64,
    /// How long a request may take from its arrival to its answer, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a model may take to load, in seconds; building its environment is not counted.
    pub load_timeout_s: u64,
    /// How many requests may wait for one model; more are refused with 503.
    pub queue_length: usize,
    /// How many rows may be joined to one call of a model.
    pub batch_rows: usize,
    /// The most memory that one worker may use, in bytes; absent: as much as all together.
    pub worker_memory_bytes: Option<u64>,
    /// Beyond which size copies of models whose files are in a bucket or on an external MLflow
    /// server are removed, those used longest ago first, in bytes; 0: never.
    pub copies_limit_bytes: u64,
    /// Whether models whose arithmetic asgard knows are answered without Python, once both have
    /// given the same bits.
    pub native: bool,
    /// Whether such models are compared with Python when they are registered, one at a time, so that
    /// their first answer need not wait for it.
    pub prove_models: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            max_models: 32,
            idle_timeout_s: 1_800,
            request_timeout_ms: 60_000,
            load_timeout_s: 120,
            queue_length: 1_024,
            batch_rows: 1_024,
            worker_memory_bytes: None,
            copies_limit_bytes: 20 << 30,
            native: true,
            prove_models: true,
        }
    }
}

impl Config {
    /// The memory of all workers together.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
            .unwrap_or_else(|| machine_memory_bytes() / 2)
    }

    /// The memory of one worker.
    pub(crate) fn worker_memory_bytes(&self) -> u64 {
        self.worker_memory_bytes
            .unwrap_or_else(|| self.memory_bytes())
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn load_timeout(&self) -> Duration {
        Duration::from_secs(self.load_timeout_s)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }
}

/// All of the machine's memory; without /proc, four gigabytes.
fn machine_memory_bytes() -> u64 {
    const UNKNOWN: u64 = 4 << 30;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(UNKNOWN, |kb| kb * 1024)
}
