//! Following a job.

use std::time::Instant;

use serde_json::Value;

use super::feed::{Feed, Heard};
use super::{View, until_interrupted};
use crate::client::{Client, Event};
use crate::commands::models::segment;
use crate::commands::output::line;
use crate::commands::phases::{Phases, SCRIPT};
use crate::failure::{Exit, Failure};

/// Shows a job from the byte `from` of its log on, until it ends or the user interrupts.
///
/// # Errors
/// [`Exit::Interrupted`] when the user left; the job goes on.
pub(in crate::commands) async fn follow(
    client: &Client,
    job_id: &str,
    from: i64,
    view: &mut View,
) -> anyhow::Result<()> {
    let message = format!("no longer following; the job {job_id} goes on");
    let left = Failure::new(Exit::Interrupted, message).help(format!(
        "'asgard jobs logs -f {job_id}' follows it again, 'asgard jobs cancel {job_id}' stops it"
    ));
    let ended = until_interrupted(read(client, job_id, from, view), left).await;
    view.phases.close();
    ended
}

/// Shows a job to its end.
pub(super) async fn read(
    client: &Client,
    job_id: &str,
    from: i64,
    view: &mut View,
) -> anyhow::Result<()> {
    let path = format!("/mlops/training/jobs/{}/logs", segment(job_id));
    let mut feed = Feed::new(client, path, from);
    loop {
        match feed.next().await? {
            Heard::Event(event) if take(&event, view)? => return Ok(()),
            Heard::Event(_) => {}
            Heard::Quiet => settle(view),
            Heard::Lost => view.phases.line("the connection is lost; trying again"),
        }
    }
}

/// Shows the change of phase that came last.
fn settle(view: &mut View) {
    if let Some((status, at)) = view.pending.take() {
        show_status(&status, at, &mut view.phases);
    }
}

/// Shows one event; true for the last.
fn take(event: &Event, view: &mut View) -> anyhow::Result<bool> {
    match event.name.as_str() {
        "log" => log(&event.json()?, view)?,
        "status" if !view.platform_lines => {
            settle(view);
            view.pending = Some((event.json()?, Instant::now()));
        }
        "end" => {
            settle(view);
            view.phases.end(event.json()?["status"] == "completed");
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

fn log(data: &Value, view: &mut View) -> std::io::Result<()> {
    if view.json_lines {
        return line(&data.to_string());
    }
    let text = data["text"].as_str().unwrap_or_default();
    match data["stream"].as_str() {
        Some("platform") => {
            if let Some(count) = packages(text) {
                view.phases.detail(count);
            }
            if view.platform_lines {
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    view.phases.aside(line);
                }
            }
            Ok(())
        }
        stream => {
            settle(view);
            let to_stderr = view.log_to_stderr || stream == Some("stderr");
            view.phases.script(text, to_stderr)
        }
    }
}

fn show_status(data: &Value, at: Instant, phases: &mut Phases) {
    match (data["status"].as_str(), data["phase"].as_str()) {
        (Some("queued"), _) => phases.begin("queue", at),
        (Some("running"), Some("running")) => phases.begin(SCRIPT, at),
        (Some("running"), Some("registering")) => phases.begin("registration", at),
        (Some("running"), _) => phases.begin("environment", at),
        _ => {}
    }
    if let Some(progress) = data["progress"].as_f64() {
        phases.progress(progress);
    }
}

/// Finds `34 packages` in a line of the platform.
fn packages(text: &str) -> Option<String> {
    let before = text.split("packages").next().filter(|b| *b != text)?;
    let count = before.split_whitespace().next_back()?;
    let count = count.trim_start_matches('(');
    count.parse::<u32>().ok().map(|n| format!("{n} packages"))
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn the_number_of_packages_is_found_in_the_platforms_words() {
        let found = packages("✓ Dependencies installed successfully (34 packages, 0.8 s)");
        assert_eq!(found.as_deref(), Some("34 packages"));
        assert_eq!(packages("Installing requirements..."), None);
        assert_eq!(packages("some packages"), None);
    }
}
