//! `asgard webhooks`: who is told of what happens.

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::models::segment;
use super::output::{Column, Format, message};
use crate::failure::{Exit, Failure};

const WEBHOOKS: &[Column] = &[
    ("webhook", "/webhook_id"),
    ("name", "/name"),
    ("status", "/status"),
    ("url", "/url"),
    ("events", "/events"),
    ("description", "/description"),
    ("created", "/created_at"),
];

const DELIVERIES: &[Column] = &[
    ("delivery", "/delivery_id"),
    ("event", "/event"),
    ("state", "/state"),
    ("attempts", "/attempts"),
    ("answer", "/response_status"),
    ("error", "/error"),
    ("created", "/created_at"),
    ("ended", "/ended_at"),
];

const TEST: &[Column] = &[
    ("success", "/success"),
    ("answer", "/response_status"),
    ("body", "/response_body"),
    ("error", "/error"),
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard webhooks create ci https://ci.example.com/hooks/asgard --event job.completed --event job.failed
  openssl rand -hex 32 | tee secret.txt | asgard webhooks create ci https://ci.example.com/ --event model_version.created --secret-stdin
  asgard webhooks test ci
  asgard webhooks deliveries ci
  asgard webhooks delete ci")]
pub(crate) struct WebhooksArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// List the webhooks, oldest first
    #[command(visible_alias = "ls")]
    List,
    /// Make a webhook
    #[command(visible_alias = "add")]
    Create {
        /// Its name
        name: String,
        /// Where it leads, https:// unless the server allows more
        address: String,
        /// What it is told of, such as job.completed; may be given again and again
        #[arg(long = "event", value_name = "ENTITY.ACTION", required = true)]
        events: Vec<String>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// Read the secret that deliveries are signed with from standard input
        #[arg(long)]
        secret_stdin: bool,
    },
    /// Send an example of an event, once
    Test {
        /// The id or the name
        webhook: String,
        /// The event [default: the first of the webhook's]
        #[arg(long, value_name = "ENTITY.ACTION")]
        event: Option<String>,
    },
    /// List what was and is sent, newest first
    Deliveries {
        /// The id or the name
        webhook: String,
    },
    /// Delete a webhook; what waits for it is not delivered
    #[command(visible_alias = "rm")]
    Delete {
        /// The id or the name
        webhook: String,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: &WebhooksArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        WebhooksCommand::List => {
            let items = all(&client).await?;
            output.list(&json!({ "webhooks": items }), &items, WEBHOOKS)?;
        }
        WebhooksCommand::Create {
            name,
            address,
            events,
            description,
            secret_stdin,
        } => {
            let secret = secret_stdin.then(read_secret).transpose()?;
            let body = json!({
                "name": name, "url": address, "events": events, "description": description, "secret": secret,
            });
            let made = client.post("/mlops/webhooks", &body).await?;
            output.one(&made, WEBHOOKS)?;
        }
        WebhooksCommand::Test { webhook, event } => {
            let path = format!("{}/test", path(&client, webhook).await?);
            let result = client.post(&path, &json!({ "event": event })).await?;
            output.one(&result, TEST)?;
            if result["success"] != true {
                let failed = Failure::new(Exit::Unsuccessful, "the receiver did not take the test");
                return Err(failed.help("the answer above says why").into());
            }
        }
        WebhooksCommand::Deliveries { webhook } => {
            let path = format!("{}/deliveries", path(&client, webhook).await?);
            let log = client.get(&path, &[]).await?;
            let items = log["deliveries"].as_array().cloned().unwrap_or_default();
            output.list(&log, &items, DELIVERIES)?;
        }
        WebhooksCommand::Delete { webhook } => {
            client.remove(&path(&client, webhook).await?).await?;
            if output.format() == Format::Table && !output.quiet {
                message(&format!("the webhook {webhook} is told nothing any more"));
            }
        }
    }
    Ok(())
}

fn read_secret() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        let failed = Failure::new(Exit::Usage, "standard input holds no secret");
        return Err(failed
            .help("pipe it in: 'openssl rand -hex 32 | asgard webhooks create ... --secret-stdin'")
            .into());
    }
    Ok(secret.to_owned())
}

async fn all(client: &crate::client::Client) -> Result<Vec<Value>, Failure> {
    let mut webhooks = Vec::new();
    let mut query = vec![("limit", "1000".to_owned())];
    loop {
        let page = client.get("/mlops/webhooks", &query).await?;
        webhooks.extend(page["webhooks"].as_array().cloned().unwrap_or_default());
        let Some(token) = page["next_page_token"].as_str() else {
            return Ok(webhooks);
        };
        query.truncate(1);
        query.push(("page_token", token.to_owned()));
    }
}

/// The path of the webhook with this id, or of the only one with this name.
async fn path(client: &crate::client::Client, webhook: &str) -> Result<String, Failure> {
    let found = all(client).await?;
    let by = |field: &str| {
        let named = found.iter().filter(|item| item[field] == webhook);
        named.collect::<Vec<&Value>>()
    };
    let ids = by("webhook_id");
    let found = if ids.is_empty() { by("name") } else { ids };
    match found.as_slice() {
        [one] => {
            let id = one["webhook_id"].as_str().unwrap_or_default();
            Ok(format!("/mlops/webhooks/{}", segment(id)))
        }
        [] => Err(
            Failure::new(Exit::NotFound, format!("there is no webhook {webhook}"))
                .help("'asgard webhooks list' shows the webhooks"),
        ),
        _ => Err(
            Failure::new(Exit::Usage, format!("several webhooks are named {webhook}"))
                .help("name one by its id: 'asgard webhooks list' shows them"),
        ),
    }
}
