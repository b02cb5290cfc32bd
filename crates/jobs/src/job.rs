//! A training job: what was asked for, where it stands, what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::variables;

/// A job as it stands in the database, without its script and log.
#[derive(Debug, Clone)]
pub struct Job {
    pub job_id: String,
    /// What the caller asked for.
    pub request: JobRequest,
    /// Who asked.
    pub created_by: String,
    pub status: Status,
    pub phase: Option<Phase>,
    /// Why it failed, in one word.
    pub reason: Option<Reason>,
    /// How many times it was started; more than once after a server died.
    pub attempt: i64,
    pub cancel_requested: bool,
    /// From 0.0 to 1.0, as the script reported it.
    pub progress: Option<f64>,
    /// The run that owns the model, else the last run.
    pub run_id: Option<String>,
    /// The version that was registered under the request's model name.
    pub model_version: Option<String>,
    pub error: Option<Problem>,
    pub warnings: Vec<Problem>,
    pub facts: Facts,
    /// Epoch milliseconds, like all times here.
    pub created_at: i64,
    pub started_at: Option<i64>,
    /// When the first line of user code could run.
    pub script_started_at: Option<i64>,
    pub completed_at: Option<i64>,
    /// The column of its row that is not what this version writes; such a job is not run.
    pub unreadable: Option<&'static str>,
    /// The variables as they lie in the row, while they are not opened: until then the request has
    /// their names alone.
    pub sealed_variables: Option<String>,
}

/// What a caller asks for, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    pub script_name: String,
    /// The name of the script's file inside the job.
    pub script_file: String,
    pub experiment_name: String,
    pub model_name: String,
    /// Absent: the script's inline metadata, else the default set.
    pub requirements: Option<Vec<String>>,
    #[serde(deserialize_with = "variables::read_stored")]
    pub environment_vars: BTreeMap<String, String>,
    pub timeout_s: u32,
    pub tags: BTreeMap<String, String>,
    /// A job that leaves no model fails.
    pub require_model: bool,
    /// Turn MLflow's autologging on before the script.
    pub autolog: bool,
    /// A Python version such as `3.11`.
    pub python: Option<String>,
    pub memory_bytes: Option<u64>,
    pub cpus: Option<f64>,
}

impl JobRequest {
    /// The request of a job of which nothing but its names can be read.
    pub(crate) fn named(script_name: String, experiment_name: String, model_name: String) -> Self {
        Self {
            script_file: script_name.clone(),
            script_name,
            experiment_name,
            model_name,
            requirements: None,
            environment_vars: BTreeMap::new(),
            timeout_s: 0,
            tags: BTreeMap::new(),
            require_model: false,
            autolog: false,
            python: None,
            memory_bytes: None,
            cpus: None,
        }
    }
}

/// Where a job stands; these four values are all that old pollers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Completed,
    Failed,
}

impl Status {
    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Completed, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == text)
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// What a running job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Preparing,
    Installing,
    Running,
    Registering,
}

impl Phase {
    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Installing => "installing",
            Self::Running => "running",
            Self::Registering => "registering",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Self::Preparing,
            Self::Installing,
            Self::Running,
            Self::Registering,
        ]
        .into_iter()
        .find(|p| p.as_str() == text)
    }
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody stopped it.
    Cancelled,
    /// The script ran longer than its timeout.
    Timeout,
    /// It used more memory than it may.
    Oom,
    /// The script or its requirements are at fault.
    User,
    /// The platform is at fault.
    Infra,
    /// The server died under it, twice.
    Lost,
}

impl Reason {
    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Oom => "oom",
            Self::User => "user",
            Self::Infra => "infra",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Self::Cancelled,
            Self::Timeout,
            Self::Oom,
            Self::User,
            Self::Infra,
            Self::Lost,
        ]
        .into_iter()
        .find(|r| r.as_str() == text)
    }
}

/// What went wrong or deserves attention, with its cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name: `no_mlflow_run`, `script_failed`, ...
    pub code: String,
    /// A short title.
    pub error: String,
    /// The cause.
    pub message: String,
    /// What was found: a traceback, a list of artifacts.
    pub details: Option<String>,
    /// What to do next.
    pub help: Option<String>,
}

/// What was found out while the job ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The key of the environment it ran in.
    pub environment: Option<String>,
    pub python_version: Option<String>,
    /// The isolation that was in force, as the sandbox reports it.
    pub isolation: Option<Value>,
    pub peak_memory_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub exit_code: Option<i32>,
    /// Whether a waiting interpreter took the script.
    pub warm_start: bool,
    /// All runs that the job made, oldest first.
    pub run_ids: Vec<String>,
    /// All models that the job logged, oldest first.
    pub model_ids: Vec<String>,
    /// The experiment of the run, where the script chose another than the request.
    pub run_experiment: Option<String>,
    pub model_uri: Option<String>,
    /// What earlier attempts left: nothing of it is this attempt's result.
    pub left_behind: LeftBehind,
}

/// What attempts that came to no end made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftBehind {
    pub run_ids: Vec<String>,
    pub model_ids: Vec<String>,
    /// Names and numbers of registered versions.
    pub versions: Vec<(String, i64)>,
}

impl Problem {
    /// The problem as a log tells it: the cause, then those lines of the cure that it does not hold.
    pub(crate) fn told(&self) -> String {
        let mut text = self.message.clone();
        let help = self.help.as_deref().unwrap_or_default();
        let new = help.lines().filter(|line| !self.message.contains(line));
        for (index, line) in new.enumerate() {
            text.push_str(if index == 0 { "\n  help: " } else { "\n  " });
            text.push_str(line);
        }
        text
    }
}

impl Job {
    /// Whole seconds since the start, live while running.
    pub fn elapsed_seconds(&self, now: i64) -> i64 {
        self.started_at.map_or(0, |start| {
            (self.completed_at.unwrap_or(now) - start).max(0) / 1000
        })
    }

    /// Seconds from start to end, once there is an end.
    #[expect(
        clippy::cast_precision_loss,
        reason = "durations of jobs fit a float exactly"
    )]
    pub fn duration_seconds(&self) -> Option<f64> {
        let start = self.started_at.or(self.completed_at)?;
        Some((self.completed_at? - start).max(0) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for status in [
            Status::Queued,
            Status::Running,
            Status::Completed,
            Status::Failed,
        ] {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Phase::parse("registering"), Some(Phase::Registering));
        assert_eq!(Reason::parse("oom"), Some(Reason::Oom));
        assert_eq!(Status::parse("cancelled"), None);
    }
}
