//! The `[jobs]` section of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How training jobs are run and what they may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many jobs run at once; absent: as many as the machine has cores.
    pub parallel: Option<usize>,
    /// How many jobs may wait; more are refused with 429.
    pub queue_limit: i64,
    /// The timeout of a job that asks for none, in seconds.
    pub timeout_default_s: u32,
    /// The longest timeout that a job may ask for, in seconds.
    pub timeout_max_s: u32,
    /// How long resolving and installing packages may take, in seconds.
    pub install_timeout_s: u64,
    /// The largest script, in bytes.
    pub script_limit_bytes: usize,
    /// The packages of a job that names none.
    pub default_requirements: Vec<String>,
    /// What every job gets beside its own list, unless it pins the same package itself.
    pub always_requirements: Vec<String>,
    /// The memory of a job that asks for none, in bytes; absent: what the sandbox allows.
    pub memory_default_bytes: Option<u64>,
    /// The most memory that a job may ask for, in bytes.
    pub memory_max_bytes: Option<u64>,
    /// The CPUs of a job that asks for none.
    pub cpus_default: Option<f64>,
    /// The most processes and threads of a job.
    pub processes: u32,
    /// The most open files of a process of a job.
    pub open_files: u64,
    /// The largest file that a job may write, in bytes.
    pub file_size_bytes: u64,
    /// The size of a job's own `/tmp`, in bytes.
    pub tmp_bytes: u64,
    /// What a job's script can reach besides this server.
    pub network: Network,
    /// Folders of this machine that jobs may read at the same path; missing ones are left out.
    pub data_dirs: Vec<PathBuf>,
    /// How much of the beginning of a log is kept, in bytes.
    pub log_head_bytes: usize,
    /// How much of the end of a log is kept, in bytes.
    pub log_tail_bytes: usize,
    /// How many days after its job's end a log is removed; 0: never.
    pub keep_logs_days: u32,
    /// How many interpreters wait with their imports done, for the environment used last.
    pub warm_interpreters: usize,
    /// After how long without a job they are dropped, in seconds.
    pub warm_idle_s: u64,
    /// How long a job belongs to a server that gives no sign of life, in seconds.
    pub lease_s: u64,
    /// How often a server gives a sign of life, in seconds.
    pub heartbeat_s: u64,
}

/// From 0.15 on, skops trusts no tree of scikit-learn, and MLflow's `log_model` of a random forest,
/// as every guide writes it, ends with "references untrusted types".
const UNDERSTOOD_SKOPS: &str = "skops<0.15";

/// What a script can reach besides this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing, where the sandbox can hold that.
    Private,
    /// Whatever this machine reaches.
    Host,
}

impl Default for Config {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            parallel: None,
            queue_limit: 10_000,
            timeout_default_s: 300,
            timeout_max_s: 3600,
            install_timeout_s: 900,
            script_limit_bytes: 4 << 20,
            default_requirements: list(&[
                "mlflow",
                UNDERSTOOD_SKOPS,
                "pandas",
                "numpy",
                "scikit-learn",
                "xgboost",
                "lightgbm",
            ]),
            always_requirements: list(&["mlflow", UNDERSTOOD_SKOPS]),
            memory_default_bytes: None,
            memory_max_bytes: None,
            cpus_default: None,
            processes: 1024,
            open_files: 4096,
            file_size_bytes: 16 << 30,
            tmp_bytes: 2 << 30,
            network: Network::Private,
            data_dirs: vec![PathBuf::from("/data")],
            log_head_bytes: 1 << 20,
            log_tail_bytes: 1 << 20,
            keep_logs_days: 90,
            warm_interpreters: 1,
            warm_idle_s: 900,
            lease_s: 30,
            heartbeat_s: 5,
        }
    }
}

/// The shortest timeout that a job may ask for, in seconds.
pub(crate) const TIMEOUT_MIN_S: u32 = 60;

impl Config {
    /// How many jobs run at once.
    pub(crate) fn slots(&self) -> usize {
        self.parallel
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .max(1)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s)
    }

    pub(crate) fn install_timeout(&self) -> Duration {
        Duration::from_secs(self.install_timeout_s)
    }
}
