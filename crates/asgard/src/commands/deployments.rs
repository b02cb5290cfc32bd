//! `asgard deployments`: what is deployed, and changing it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::deploy::percent;
use super::follow::{View, conclude_deployment, follow_deployment, print_line};
use super::models::segment;
use super::output::{Column, Format, OutputArgs, line, message};
use crate::client::Client;
use crate::failure::Failure;

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
        /// Of this model
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        /// In this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
    },
    /// Show a deployment
    Get {
        /// The deployment's id
        deployment: String,
    },
    /// Print a deployment's log
    Logs {
        /// The deployment's id
        deployment: String,
        /// Go on as it grows, until the deployment is made
        #[arg(short, long)]
        follow: bool,
    },
    /// Print how a cluster differs from what a deployment should be there
    Drift {
        /// The deployment's id
        deployment: String,
    },
    /// Change the number of replicas
    Scale {
        /// The deployment's id
        deployment: String,
        /// How many
        replicas: u32,
    },
    /// Give a deployment a share of the requests: 100 promotes it, 0 takes it out
    Traffic {
        /// The deployment's id
        deployment: String,
        /// 0 to 100
        #[arg(value_parser = percent)]
        percent: u32,
    },
    /// Deploy again what was there before
    Rollback {
        /// The deployment's id
        deployment: String,
        /// The deployment to go back to [default: the one before]
        #[arg(long, value_name = "DEPLOYMENT")]
        to: Option<String>,
    },
    /// Stop and remove a deployment
    Rm {
        /// The deployment's id
        deployment: String,
    },
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
    let texts = |key: &str| -> Vec<&str> {
        let texts = plan[key].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).collect()
    };
    let (differences, unread) = (texts("differences"), texts("unread"));
    if !output.quiet {
        match (&differences[..], &unread[..]) {
            ([], []) => message("the cluster is as it should be"),
            ([], _) => message("the cluster is as it should be, as far as it could be read"),
            _ => differences.iter().for_each(|text| message(text)),
        }
        for text in unread {
            message(&format!("not compared: {text}"));
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
    let mut view = View::of_phases(context, output);
    view.phases.mark(true, &format!("deployment {id}"), None);
    follow_deployment(client, id, &mut view).await?;
    let made = get(client, id).await?;
    if output.format() != Format::Table {
        output.one(&made, DEPLOYMENT)?;
    }
    Ok(conclude_deployment(&made, &mut view.phases)?)
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
        let mut view = View::of_log(context, output);
        return follow_deployment(client, deployment, &mut view).await;
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
            print_line(entry, output.lines())?;
        }
        after = part["next_after"].as_i64().unwrap_or(after);
        if lines.is_empty() {
            return Ok(());
        }
    }
}
