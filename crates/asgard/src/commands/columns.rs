//! The columns of jobs, and what a job's end means for the command.

use std::time::Duration;

use serde_json::Value;

use super::output::Column;
use super::phases::Phases;
use crate::failure::{Exit, Failure};

/// Jobs in a list.
pub(crate) const JOBS: &[Column] = &[
    ("job", "/job_id"),
    ("status", "/status"),
    ("phase", "/phase"),
    ("reason", "/reason"),
    ("script", "/script_name"),
    ("model", "/model_name"),
    ("version", "/model_version"),
    ("created", "/created_at"),
    ("seconds", "/elapsed_seconds"),
];

/// One job.
pub(crate) const JOB: &[Column] = &[
    ("job", "/job_id"),
    ("status", "/status"),
    ("phase", "/phase"),
    ("reason", "/reason"),
    ("progress", "/progress"),
    ("script", "/script_name"),
    ("experiment", "/experiment_name"),
    ("model", "/model_name"),
    ("version", "/model_version"),
    ("run", "/run_id"),
    ("error", "/error"),
    ("help", "/error_info/help"),
    ("created", "/created_at"),
    ("started", "/started_at"),
    ("completed", "/completed_at"),
    ("seconds", "/duration_seconds"),
    ("requirements", "/requirements"),
    ("python", "/python_version"),
    ("environment", "/environment"),
    ("isolation", "/isolation/level"),
    ("peak memory", "/resource_usage/peak_memory"),
    ("CPU seconds", "/resource_usage/cpu_seconds"),
    ("tags", "/tags"),
];

/// Tells how a job ended.
///
/// # Errors
/// [`Exit::Unsuccessful`] when it failed, with the platform's help.
pub(crate) fn conclude(job: &Value, phases: &mut Phases) -> Result<(), Failure> {
    let text = |path: &str| job.pointer(path).and_then(Value::as_str);
    for warning in job["warnings"].as_array().into_iter().flatten() {
        let message = warning["message"].as_str().unwrap_or_default();
        phases.line(&format!("warning: {message}"));
        if let Some(help) = warning["help"].as_str() {
            phases.line(&format!("help: {help}"));
        }
    }
    let took = job["duration_seconds"]
        .as_f64()
        .map(Duration::from_secs_f64);
    let id = text("/job_id").unwrap_or_default();
    if text("/status") == Some("completed") {
        let mut parts = vec![format!("completed {id}")];
        parts.extend(text("/run_id").map(|run| format!("run {run}")));
        if let (Some(model), Some(version)) = (text("/model_name"), text("/model_version")) {
            parts.push(format!("model {model} version {version}"));
        }
        phases.mark(true, &parts.join(", "), took);
        return Ok(());
    }
    let reason = text("/reason").unwrap_or("unknown reason");
    phases.mark(false, &format!("failed {id} ({reason})"), took);
    let error = text("/error").unwrap_or("the job failed and told no error");
    let failure = Failure::new(Exit::Unsuccessful, error.trim_end());
    Err(match text("/error_info/help") {
        Some(help) => failure.help(beyond(help, error)),
        None => failure,
    })
}

/// The lines of `help` that `error` has not said already.
fn beyond(help: &str, error: &str) -> String {
    let said: Vec<&str> = error.lines().map(str::trim).collect();
    let new = |line: &&str| {
        let line = line.trim();
        !said.iter().any(|s| !line.is_empty() && s.ends_with(line))
    };
    let lines: Vec<&str> = help.trim_end().lines().filter(new).collect();
    if lines.is_empty() {
        help.trim_end().to_owned()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn help_does_not_repeat_the_error() {
        let error = "No runs. Your script MUST:\n1. start\n2. train";
        let help = "Your script MUST:\n1. start\n2. train\nOr turn autolog on.";
        assert_eq!(beyond(help, error), "Or turn autolog on.");
        assert_eq!(beyond("wait", error), "wait");
    }
}
