//! Following a job: its log as it grows, its phases, its end.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;

use super::phases::{Phases, SCRIPT};
use crate::client::{Client, Event};
use crate::failure::{Exit, Failure};

/// How often a broken stream is opened again before the command gives up: for half a minute,
/// which a restart of the server may take.
const RECONNECTS: u32 = 14;

/// How much longer each attempt waits.
const RECONNECT_STEP: Duration = Duration::from_millis(300);

/// How long a change of phase waits for what belongs to the phase before.
const SETTLE: Duration = Duration::from_millis(150);

/// How a job that is followed is shown.
pub(crate) struct View {
    pub(crate) phases: Phases,
    /// Send the script's output to stderr as well: stdout holds a document.
    pub(crate) log_to_stderr: bool,
    /// Print each part of the log as a JSON document.
    pub(crate) json_lines: bool,
    /// Show what the platform wrote into the log, in place of phases.
    pub(crate) platform_lines: bool,
    /// A change of phase that came just now. What the platform logged about the phase before
    /// comes after it.
    pub(crate) pending: Option<(Value, Instant)>,
}

impl View {
    pub(crate) fn new(phases: Phases) -> Self {
        Self {
            phases,
            log_to_stderr: false,
            json_lines: false,
            platform_lines: false,
            pending: None,
        }
    }

    fn settle(&mut self) {
        if let Some((status, at)) = self.pending.take() {
            show_status(&status, at, &mut self.phases);
        }
    }
}

/// Shows a job from the byte `from` of its log on, until it ends or the user interrupts.
///
/// # Errors
/// [`Exit::Interrupted`] when the user left; the job goes on.
pub(crate) async fn follow(
    client: &Client,
    job_id: &str,
    from: i64,
    view: &mut View,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = read(client, job_id, from, view) => {
            view.phases.close();
            ended
        }
        interrupt = tokio::signal::ctrl_c() => {
            view.phases.close();
            interrupt?;
            Err(Failure::new(Exit::Interrupted, format!("no longer following; the job {job_id} goes on"))
                .help(format!("'asgard jobs logs -f {job_id}' follows it again, 'asgard jobs cancel {job_id}' stops it"))
                .into())
        }
    }
}

pub(super) async fn read(
    client: &Client,
    job_id: &str,
    from: i64,
    view: &mut View,
) -> anyhow::Result<()> {
    let path = format!(
        "/mlops/training/jobs/{}/logs",
        super::models::segment(job_id)
    );
    let mut last_id = from.to_string();
    let mut broken = 0;
    loop {
        match client.events(&path, &last_id).await {
            Ok(mut events) => loop {
                let event = match timeout(SETTLE, events.next()).await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(_) => {
                        view.settle();
                        continue;
                    }
                };
                broken = 0;
                if let Some(id) = &event.id {
                    last_id.clone_from(id);
                }
                if take(&event, view)? {
                    return Ok(());
                }
            },
            // Not there, not allowed: asking again would not help.
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure.into()),
            Err(failure) if broken >= RECONNECTS => return Err(failure.into()),
            Err(_) => {}
        }
        broken += 1;
        if broken > RECONNECTS {
            let message = format!(
                "the log of {job_id} cannot be followed: {} ends it each time",
                client.url()
            );
            return Err(Failure::new(Exit::Unreachable, message).into());
        }
        if broken == 1 {
            view.phases.line("the connection is lost; trying again");
        }
        tokio::time::sleep(RECONNECT_STEP * broken).await;
    }
}

/// Shows one event; true for the last.
fn take(event: &Event, view: &mut View) -> anyhow::Result<bool> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    match event.name.as_str() {
        "log" => log(&data, view)?,
        "status" if !view.platform_lines => {
            view.settle();
            view.pending = Some((data, Instant::now()));
        }
        "end" => {
            view.settle();
            view.phases.end(data["status"] == "completed");
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

fn log(data: &Value, view: &mut View) -> std::io::Result<()> {
    if view.json_lines {
        return super::output::line(&data.to_string());
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
            view.settle();
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
