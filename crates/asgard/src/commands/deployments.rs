//! `asgard deployments`: what is deployed, and changing it.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::deploy::percent;
use super::follow::{self, View};
use super::models::segment;
use super::output::{Column, Format, OutputArgs, line, message};
use super::phases::Phases;
use crate::client::{Client, Event};
use crate::failure::{Exit, Failure};

/// How often a broken stream is opened again: for half a minute, which a restart may take.
const RECONNECTS: u32 = 14;
const RECONNECT_STEP: Duration = Duration::from_millis(300);

/// Deployments in a list.
const DEPLOYMENTS: &[Column] = &[
    ("deployment", "/deployment_id"),
    ("status", "/status"),
    ("live", "/live"),
    ("model", "/model_name"),
    ("version", "/model_version"),
    ("ready", "/ready_replicas"),
    ("replicas", "/replicas"),
    ("traffic %", "/traffic_percent"),
    ("url", "/inference_url"),
    ("created", "/created_at"),
];

/// One deployment.
pub(super) const DEPLOYMENT: &[Column] = &[
    ("deployment", "/deployment_id"),
    ("status", "/status"),
    ("live", "/live"),
    ("model", "/model_name"),
    ("version", "/model_version"),
    ("run", "/run_id"),
    ("training job", "/training_job_id"),
    ("url", "/inference_url"),
    ("predict", "/endpoints/predict"),
    ("namespace", "/namespace"),
    ("target", "/target"),
    ("image", "/image"),
    ("ready", "/ready_replicas"),
    ("replicas", "/replicas"),
    ("traffic %", "/traffic_percent"),
    ("rollback to", "/rollback_to"),
    ("error", "/error"),
    ("help", "/error_info/help"),
    ("created", "/created_at"),
    ("completed", "/completed_at"),
    ("retired", "/retired_at"),
    ("seconds", "/deployment_time_seconds"),
];

#[derive(Debug, Args)]
pub(crate) struct DeploymentsArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: DeploymentsCommand,
}

#[derive(Debug, Subcommand)]
enum DeploymentsCommand {
    /// List deployments, newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those that should answer requests
        #[arg(long)]
        live: bool,
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
    },
    /// Show a deployment
    Get { deployment: String },
    /// Print a deployment's log
    Logs {
        deployment: String,
        /// Go on as it grows, until the deployment is made
        #[arg(short, long)]
        follow: bool,
    },
    /// Print how a cluster differs from what a deployment should be there
    Drift { deployment: String },
    /// Change the number of replicas
    Scale { deployment: String, replicas: u32 },
    /// Give a deployment a share of the requests: 100 promotes it, 0 takes it out
    Traffic {
        deployment: String,
        #[arg(value_parser = percent)]
        percent: u32,
    },
    /// Deploy again what was there before
    Rollback {
        deployment: String,
        /// The deployment to go back to [default: the one before]
        #[arg(long, value_name = "DEPLOYMENT")]
        to: Option<String>,
    },
    /// Stop and remove a deployment
    Rm { deployment: String },
}

pub(crate) async fn run(context: &Context<'_>, args: &DeploymentsArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        DeploymentsCommand::List {
            live,
            model,
            namespace,
        } => {
            let mut query = vec![("live", live.to_string())];
            query.extend(model.clone().map(|name| ("model_name", name)));
            query.extend(namespace.clone().map(|name| ("namespace", name)));
            let page = client.get("/mlops/deployments", &query).await?;
            let items = page["deployments"].as_array().cloned().unwrap_or_default();
            output.list(&page, &items, DEPLOYMENTS)?;
        }
        DeploymentsCommand::Get { deployment } => {
            output.one(&get(&client, deployment).await?, DEPLOYMENT)?;
        }
        DeploymentsCommand::Logs { deployment, follow } => {
            logs(context, &client, args, deployment, *follow).await?;
        }
        DeploymentsCommand::Drift { deployment } => {
            let drift = format!("{}/drift", path(deployment));
            print_plan(output, &client.get(&drift, &[]).await?)?;
        }
        DeploymentsCommand::Scale {
            deployment,
            replicas,
        } => {
            let body = json!({ "replicas": replicas });
            output.one(
                &change(&client, deployment, "scale", &body).await?,
                DEPLOYMENT,
            )?;
        }
        DeploymentsCommand::Traffic {
            deployment,
            percent,
        } => {
            let body = json!({ "percent": percent });
            output.one(
                &change(&client, deployment, "traffic", &body).await?,
                DEPLOYMENT,
            )?;
        }
        DeploymentsCommand::Rollback { deployment, to } => {
            roll_back(context, &client, args, deployment, to.as_deref()).await?;
        }
        DeploymentsCommand::Rm { deployment } => {
            let removed = client.delete(&path(deployment)).await?;
            if output.format() != Format::Table {
                output.one(&removed, &DEPLOYMENT[..1])?;
            } else if !output.quiet {
                message(&format!("{deployment} is removed"));
            }
        }
    }
    Ok(())
}

/// Prints the objects of a cluster as manifests, and to the side how the cluster differs.
pub(super) fn print_plan(output: OutputArgs, plan: &Value) -> anyhow::Result<()> {
    if output.format() != Format::Table {
        return Ok(output.one(plan, &[("differences", "/differences")])?);
    }
    for object in plan["objects"].as_array().into_iter().flatten() {
        line(&format!(
            "---\n{}",
            serde_yaml_ng::to_string(object)?.trim_end()
        ))?;
    }
    let differences = plan["differences"].as_array().into_iter().flatten();
    let differences: Vec<&str> = differences.filter_map(Value::as_str).collect();
    if !output.quiet {
        match differences[..] {
            [] => message("the cluster is as it should be"),
            _ => differences.iter().for_each(|text| message(text)),
        }
    }
    Ok(())
}

fn path(deployment: &str) -> String {
    format!("/mlops/deployments/{}", segment(deployment))
}

/// Reads a deployment.
pub(super) async fn get(client: &Client, deployment: &str) -> Result<Value, Failure> {
    client.get(&path(deployment), &[]).await
}

async fn change(
    client: &Client,
    deployment: &str,
    what: &str,
    body: &Value,
) -> Result<Value, Failure> {
    client
        .post(&format!("{}/{what}", path(deployment)), body)
        .await
}

async fn roll_back(
    context: &Context<'_>,
    client: &Client,
    args: &DeploymentsArgs,
    deployment: &str,
    to: Option<&str>,
) -> anyhow::Result<()> {
    let output = args.remote.output;
    let begun = change(
        client,
        deployment,
        "rollback?wait=false",
        &json!({ "to": to }),
    )
    .await?;
    let id = begun["deployment_id"].as_str().unwrap_or_default();
    let mut view = View::new(Phases::new(context.live(), context.color(), output.quiet));
    view.phases.mark(true, &format!("deployment {id}"), None);
    follow(client, id, 0, &mut view).await?;
    let made = get(client, id).await?;
    if output.format() != Format::Table {
        output.one(&made, DEPLOYMENT)?;
    }
    Ok(conclude(&made, &mut view.phases)?)
}

async fn logs(
    context: &Context<'_>,
    client: &Client,
    args: &DeploymentsArgs,
    deployment: &str,
    following: bool,
) -> anyhow::Result<()> {
    let output = args.remote.output;
    if following {
        let mut view = View::new(Phases::new(false, context.color(), output.quiet));
        view.json_lines = output.lines();
        view.platform_lines = true;
        return follow(client, deployment, 0, &mut view).await;
    }
    let path = format!("{}/logs", path(deployment));
    let mut after = 0;
    loop {
        let part = client.get(&path, &[("after", after.to_string())]).await?;
        let lines = part["lines"].as_array().cloned().unwrap_or_default();
        if output.format() != Format::Table && !output.lines() {
            return Ok(output.one(&part, &[])?);
        }
        for entry in &lines {
            show(entry, output.lines())?;
        }
        after = part["next_after"].as_i64().unwrap_or(after);
        if lines.is_empty() {
            return Ok(());
        }
    }
}

fn show(entry: &Value, as_json: bool) -> std::io::Result<()> {
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

/// Shows how a deployment is made, from a line of its log on, until it is or the user interrupts.
///
/// # Errors
/// [`Exit::Interrupted`] when the user left; the deployment goes on.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    after: i64,
    view: &mut View,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = read(client, id, after, view) => {
            view.phases.close();
            ended
        }
        interrupt = tokio::signal::ctrl_c() => {
            view.phases.close();
            interrupt?;
            Err(Failure::new(Exit::Interrupted, format!("no longer following; the deployment {id} goes on"))
                .help(format!("'asgard deployments logs -f {id}' follows it again, 'asgard deployments rm {id}' stops it"))
                .into())
        }
    }
}

async fn read(client: &Client, id: &str, after: i64, view: &mut View) -> anyhow::Result<()> {
    let path = format!("{}/logs", path(id));
    let mut last_id = after.to_string();
    let mut trained = view.platform_lines;
    let mut broken = 0;
    loop {
        match client.events(&path, &last_id).await {
            Ok(mut events) => {
                while let Some(event) = events.next().await {
                    broken = 0;
                    if let Some(id) = &event.id {
                        last_id.clone_from(id);
                    }
                    if let (false, Some(job)) = (trained, training(&event)) {
                        trained = true;
                        follow::read(client, &job, 0, view).await?;
                    }
                    if take(&event, view)? {
                        return Ok(());
                    }
                }
            }
            // Not there, not allowed: asking again would not help.
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure.into()),
            Err(failure) if broken >= RECONNECTS => return Err(failure.into()),
            Err(_) => {}
        }
        broken += 1;
        tokio::time::sleep(RECONNECT_STEP * broken.min(RECONNECTS)).await;
    }
}

/// The job that trains, when an event tells of one.
fn training(event: &Event) -> Option<String> {
    let data: Value = serde_json::from_str(&event.data).ok()?;
    let job = data["training_job_id"].as_str()?;
    (event.name == "status" && data["status"] == "training").then(|| job.to_owned())
}

/// Shows one event; true for the last.
fn take(event: &Event, view: &mut View) -> anyhow::Result<bool> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    match event.name.as_str() {
        "log" if view.json_lines || view.platform_lines => show(&data, view.json_lines)?,
        "log" => view.phases.aside(data["text"].as_str().unwrap_or_default()),
        "status" => match data["status"].as_str() {
            Some("building") => view.phases.begin("environment", Instant::now()),
            Some("pushing") => view.phases.begin("push", Instant::now()),
            Some("deploying") => view.phases.begin("replicas", Instant::now()),
            _ => {}
        },
        "end" => {
            view.phases.end(data["status"] == "deployed");
            return Ok(true);
        }
        _ => {}
    }
    Ok(false)
}

/// Tells how a deployment ended.
///
/// # Errors
/// [`Exit::Unsuccessful`] when it failed, with the platform's help.
pub(super) fn conclude(deployment: &Value, phases: &mut Phases) -> Result<(), Failure> {
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
