//! `asgard jobs`: what was uploaded and what became of it.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::columns::{JOB, JOBS, conclude};
use super::follow::{View, follow_job};
use super::models::segment;
use super::output::{Format, message};
use super::phases::Phases;
use crate::client::Client;
use crate::failure::{Exit, Failure};

/// How often a job that is waited for is looked at.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List jobs, newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a job
    Get {
        /// The job's id
        job: String,
    },
    /// Print a job's log
    Logs {
        /// The job's id
        job: String,
        /// Go on as it grows, until the job ends
        #[arg(short, long)]
        follow: bool,
        /// The byte to start from
        #[arg(long, default_value_t = 0, value_name = "BYTE")]
        offset: i64,
    },
    /// Stop a job that waits or runs
    Cancel {
        /// The job's id
        job: String,
    },
    /// Run again what a job ran, on the same snapshots of features
    Rerun {
        /// The job's id
        job: String,
    },
    /// Wait until a job has ended; exits with 5 when it failed, 8 when the time is over
    Wait {
        /// The job's id
        job: String,
        /// Seconds to wait [default: as long as it takes]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// queued, running, completed or failed
    #[arg(long)]
    status: Option<String>,
    /// The experiment that the upload named
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// The registered model that the upload named
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Part of the script's, experiment's or model's name
    #[arg(long)]
    text: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// The next_page_token of the page before
    #[arg(long, value_name = "TOKEN")]
    page: Option<String>,
}

pub(crate) async fn run(context: &Context<'_>, args: &JobsArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        JobsCommand::List(list) => {
            let page = client.get("/mlops/training/jobs", &query(list)).await?;
            let items = page["jobs"].as_array().cloned().unwrap_or_default();
            output.list(&page, &items, JOBS)?;
            if let Some(token) = page["next_page_token"].as_str()
                && output.format() == Format::Table
                && !output.quiet
            {
                message(&format!("more: add --page {token}"));
            }
        }
        JobsCommand::Get { job } => output.one(&get(&client, job).await?, JOB)?,
        JobsCommand::Logs {
            job,
            follow,
            offset,
        } => {
            logs(context, &client, args, job, *follow, *offset).await?;
        }
        JobsCommand::Cancel { job } => {
            let path = format!("/mlops/training/jobs/{}/cancel", segment(job));
            let document = client.post(&path, &json!({})).await?;
            if output.format() == Format::Table {
                if !output.quiet {
                    message(&format!("{job} is being stopped"));
                }
            } else {
                output.one(&document, JOB)?;
            }
        }
        JobsCommand::Rerun { job } => {
            let path = format!("/mlops/training/jobs/{}/rerun", segment(job));
            let document = client.post(&path, &json!({})).await?;
            output.one(&document, JOB)?;
        }
        JobsCommand::Wait { job, timeout } => {
            let limit = timeout.map(Duration::from_secs);
            let document = wait(&client, job, limit).await?;
            if output.format() != Format::Table {
                output.one(&document, JOB)?;
            }
            let mut phases = Phases::new(false, context.color(), output.quiet);
            conclude(&document, &mut phases)?;
        }
    }
    Ok(())
}

fn query(list: &ListArgs) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", list.limit.to_string())];
    for (name, value) in [
        ("status", &list.status),
        ("experiment_name", &list.experiment),
        ("model_name", &list.model),
        ("text", &list.text),
        ("page_token", &list.page),
    ] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    query
}

/// Reads a job without its log.
pub(crate) async fn get(client: &Client, job: &str) -> Result<Value, Failure> {
    let path = format!("/mlops/training/jobs/{}", segment(job));
    client.get(&path, &[("logs", "false".to_owned())]).await
}

async fn logs(
    context: &Context<'_>,
    client: &Client,
    args: &JobsArgs,
    job: &str,
    following: bool,
    mut offset: i64,
) -> anyhow::Result<()> {
    let output = args.remote.output;
    let mut view = View::of_log(context, output);
    if following {
        follow_job(client, job, offset, &mut view).await?;
        return Ok(conclude(&get(client, job).await?, &mut view.phases)?);
    }
    let path = format!("/mlops/training/jobs/{}/logs", segment(job));
    loop {
        let part = client.get(&path, &[("offset", offset.to_string())]).await?;
        if output.lines() {
            for chunk in part["chunks"].as_array().into_iter().flatten() {
                super::output::line(&chunk.to_string())?;
            }
        } else if output.format() == Format::Table {
            view.phases
                .script(part["logs"].as_str().unwrap_or_default(), false)?;
        } else {
            return Ok(output.one(&part, &[])?);
        }
        let next = part["next_offset"].as_i64().unwrap_or(offset);
        if next <= offset {
            return Ok(());
        }
        offset = next;
    }
}

async fn wait(client: &Client, job: &str, limit: Option<Duration>) -> Result<Value, Failure> {
    let started = Instant::now();
    loop {
        let document = get(client, job).await?;
        let status = document["status"].as_str().unwrap_or_default();
        if matches!(status, "completed" | "failed") {
            return Ok(document);
        }
        if limit.is_some_and(|limit| started.elapsed() + POLL > limit) {
            return Err(
                Failure::new(Exit::Pending, format!("{job} is still {status}"))
                    .help("wait longer with --timeout, or follow it: asgard jobs logs -f"),
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
