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
    /// The most memory that one worker may use, in bytes; absent: no limit of its own.
    pub worker_memory_bytes: Option<u64>,
    /// Whether models whose arithmetic asgard knows are answered without Python, once both have
    /// given the same bits.
    pub native: bool,
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
            native: true,
        }
    }
}

impl Config {
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
