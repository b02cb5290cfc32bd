//! Following what the server does: its log as it grows, its phases, its end.

mod deployment;
mod feed;
mod job;

pub(super) use deployment::{
    conclude as conclude_deployment, follow as follow_deployment, print_line,
};
pub(super) use job::follow as follow_job;

use std::time::Instant;

use serde_json::Value;

use super::Context;
use super::output::{Format, OutputArgs};
use super::phases::Phases;
use crate::failure::Failure;

/// How something that is followed is shown.
pub(super) struct View {
    pub(super) phases: Phases,
    /// Send the script's output to stderr as well: stdout holds a document.
    pub(super) log_to_stderr: bool,
    /// Print each part of the log as a JSON document.
    pub(super) json_lines: bool,
    /// Show what the platform wrote into the log, in place of phases.
    pub(super) platform_lines: bool,
    /// A change of phase that came just now. What the platform logged about the phase before
    /// comes after it.
    pending: Option<(Value, Instant)>,
}

impl View {
    /// The log alone, as it stands.
    pub(super) fn of_log(context: &Context<'_>, output: OutputArgs) -> Self {
        Self {
            json_lines: output.lines(),
            platform_lines: true,
            ..Self::new(Phases::new(false, context.color(), output.quiet))
        }
    }

    /// The phases, with the script's output; a document may follow on stdout.
    pub(super) fn of_phases(context: &Context<'_>, output: OutputArgs) -> Self {
        Self {
            log_to_stderr: output.format() != Format::Table,
            ..Self::new(Phases::new(context.live(), context.color(), output.quiet))
        }
    }

    fn new(phases: Phases) -> Self {
        Self {
            phases,
            log_to_stderr: false,
            json_lines: false,
            platform_lines: false,
            pending: None,
        }
    }
}

/// Reads to the end, or until the user leaves, which ends in that failure.
async fn until_interrupted(
    reading: impl Future<Output = anyhow::Result<()>>,
    left: Failure,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = reading => ended,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            Err(left.into())
        }
    }
}
