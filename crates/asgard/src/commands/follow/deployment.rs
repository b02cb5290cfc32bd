//! Following a deployment, and the job that trains its script.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::feed::{Feed, Heard};
use super::{View, job, until_interrupted};
use crate::client::{Client, Event};
use crate::commands::models::segment;
use crate::commands::output::line;
use crate::commands::phases::Phases;
use crate::failure::{Exit, Failure};

/// Shows how a deployment is made, until it is or the user interrupts.
///
/// # Errors
/// [`Exit::Interrupted`] when the user left; the deployment goes on.
pub(in crate::commands) async fn follow(
    client: &Client,
    id: &str,
    view: &mut View,
) -> anyhow::Result<()> {
    let message = format!("no longer following; the deployment {id} goes on");
    let left = Failure::new(Exit::Interrupted, message).help(format!(
        "'asgard deployments logs -f {id}' follows it again, 'asgard deployments rm {id}' stops it"
    ));
    let ended = until_interrupted(read(client, id, view), left).await;
    view.phases.close();
    ended
}

async fn read(client: &Client, id: &str, view: &mut View) -> anyhow::Result<()> {
    let path = format!("/mlops/deployments/{}/logs", segment(id));
    let mut feed = Feed::new(client, path, 0);
    let mut trained = view.platform_lines;
    loop {
        let event = match feed.next().await? {
            Heard::Event(event) => event,
            Heard::Quiet => continue,
            Heard::Lost => {
                view.phases.line("the connection is lost; trying again");
                continue;
            }
        };
        if let (false, Some(job_id)) = (trained, training(&event)?) {
            trained = true;
            job::read(client, &job_id, 0, view).await?;
        }
        if take(&event, view)? {
            return Ok(());
        }
    }
}

/// The job that trains, when an event tells of one.
fn training(event: &Event) -> Result<Option<String>, Failure> {
    if event.name != "status" {
        return Ok(None);
    }
    let data = event.json()?;
    let job = data["training_job_id"].as_str().map(str::to_owned);
    Ok(job.filter(|_| data["status"] == "training"))
}

/// Shows one event; true for the last.
fn take(event: &Event, view: &mut View) -> anyhow::Result<bool> {
    match event.name.as_str() {
        "log" if view.json_lines || view.platform_lines => {
            print_line(&event.json()?, view.json_lines)?;
        }
        "log" => {
            let line = event.json()?;
            view.phases.aside(line["text"].as_str().unwrap_or_default());
        }
        "status" => match event.json()?["status"].as_str() {
            Some("building") => view.phases.begin("environment", Instant::now()),
            Some("pushing") => view.phases.begin("push", Instant::now()),
            Some("deploying") => view.phases.begin("replicas", Instant::now()),
            _ => {}
        },
        "end" => {
            view.phases.end(event.json()?["status"] == "deployed");
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

/// Prints a line of the log of a deployment.
pub(in crate::commands) fn print_line(entry: &Value, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return line(&entry.to_string());
    }
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    line(&format!(
        "{} {}: {}",
        text("at"),
        text("source"),
        text("text")
    ))
}

/// Tells how a deployment ended.
///
/// # Errors
/// [`Exit::Unsuccessful`] when it failed, with the platform's help.
pub(in crate::commands) fn conclude(
    deployment: &Value,
    phases: &mut Phases,
) -> Result<(), Failure> {
    let text = |path: &str| deployment.pointer(path).and_then(Value::as_str);
    let id = text("/deployment_id").unwrap_or_default();
    let took = deployment["deployment_time_seconds"]
        .as_f64()
        .map(Duration::from_secs_f64);
    if text("/status") == Some("deployed") {
        let model = text("/model_name").unwrap_or_default();
        let version = text("/model_version").unwrap_or_default();
        let url = text("/inference_url").unwrap_or_default();
        let told = format!("deployed {model} version {version} at {url}");
        phases.mark(true, &told, took);
        phases.aside(&format!(
            "next: curl {url}/predict -H 'Content-Type: application/json' -d '{{\"inputs\": {{...}}}}'"
        ));
        return Ok(());
    }
    phases.mark(false, &format!("failed {id}"), took);
    let error = text("/error").unwrap_or("the deployment failed and told no error");
    let failure = Failure::new(Exit::Unsuccessful, error.trim_end());
    Err(match text("/error_info/help") {
        Some(help) => failure.help(help),
        None => failure,
    })
}
