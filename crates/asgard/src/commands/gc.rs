//! `asgard gc`: on the data directory itself, or through the server that holds it.

use clap::Args;
use serde_json::{Value, json};
use tracking::{Artifacts, Tracking};
use web::Timestamp;

use super::Context;
use super::cli::LocalArgs;
use super::output::{Column, Format, line, message};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::gc::Collector;
use crate::http::gc::{CollectRequest, CollectResponse};
use crate::up;

const COLUMNS: &[Column] = &[
    ("kind", "/kind"),
    ("id", "/id"),
    ("name", "/name"),
    ("deleted", "/deleted_at"),
    ("files", "/files"),
    ("bytes", "/size_bytes"),
    ("removed", "/removed"),
    ("kept because", "/kept"),
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard gc --dry-run                  what would be removed, and how much it is
  asgard gc --older-than 7d

Works on the data directory when no server runs on it, else through that server (set ASGARD_TOKEN
to an admin's key where it asks for one). It may be interrupted at any time: the next call goes on.
What a registered version uses stays until that version is deleted.")]
pub(crate) struct GcArgs {
    #[command(flatten)]
    local: LocalArgs,
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Remove what was deleted at least so long ago, such as 12h or 30d; 0s: everything deleted
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = grace)]
    older_than: u32,
}

fn grace(text: &str) -> Result<u32, String> {
    match text {
        "0" | "0s" | "0d" => Ok(0),
        other => super::keys::seconds(other),
    }
}

/// Where the bin is emptied.
enum Place {
    Here(Box<Collector>, db::Db),
    Server(Client),
}

pub(crate) async fn run(context: &Context<'_>, args: &GcArgs) -> anyhow::Result<()> {
    let place = place(context, &args.local).await?;
    let collected = collect(&place, args).await;
    if let Place::Here(_, db) = place {
        db.close().await;
    }
    print(args, &collected?)
}

async fn place(context: &Context<'_>, args: &LocalArgs) -> anyhow::Result<Place> {
    if let Some(server) = args.named_server(context)? {
        return Ok(Place::Server(server));
    }
    let settings = context.load(&args.flags())?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    let db = match up::open_database(&settings, &data_dir).await {
        Ok(db) => db,
        Err(error) if super::keys::is_locked(&error) => {
            return Ok(Place::Server(args.holder(context, error)?));
        }
        Err(error) => return Err(error),
    };
    let artifacts = Artifacts::open(&settings.artifacts, &data_dir)?;
    let tracking = Tracking::new(db.clone(), artifacts);
    let registry = registry::Registry::new(db.clone(), tracking.clone());
    let collector = Collector::new(tracking, registry);
    Ok(Place::Here(Box::new(collector), db))
}

/// Goes through all pages.
async fn collect(place: &Place, args: &GcArgs) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = page(place, args, after.take()).await?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
}

async fn page(place: &Place, args: &GcArgs, after: Option<String>) -> Result<Value, Failure> {
    match place {
        Place::Server(client) => {
            let body = json!({
                "dry_run": args.dry_run,
                "older_than_seconds": args.older_than,
                "after": after,
            });
            client.post("/mlops/gc", &body).await
        }
        Place::Here(collector, _) => {
            let request = CollectRequest::new(args.dry_run, args.older_than, after);
            let page = collector.page(&request.order(Timestamp::now().0)).await;
            let page = page.map_err(|e| Failure::of(Exit::Failure, &e))?;
            Ok(json!(CollectResponse::from(page)))
        }
    }
}

fn print(args: &GcArgs, items: &[Value]) -> anyhow::Result<()> {
    let output = args.local.remote.output;
    let removed: Vec<&Value> = items.iter().filter(|i| i["removed"] == true).collect();
    let sum = |key: &str| removed.iter().filter_map(|i| i[key].as_u64()).sum::<u64>();
    let document = json!({
        "dry_run": args.dry_run,
        "removed": removed.len(),
        "kept": items.len() - removed.len(),
        "files": sum("files"),
        "size_bytes": sum("size_bytes"),
        "items": items,
    });
    if output.format() != Format::Table || !items.is_empty() {
        output.list(&document, items, COLUMNS)?;
    } else {
        line("there is nothing to remove")?;
    }
    if output.format() == Format::Table && !output.quiet && !items.is_empty() {
        let done = if args.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        message(&format!(
            "{} {done}: {} files, {} bytes; {} kept",
            removed.len(),
            sum("files"),
            sum("size_bytes"),
            items.len() - removed.len(),
        ));
    }
    Ok(())
}
