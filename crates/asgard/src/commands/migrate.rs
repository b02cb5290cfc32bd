//! `asgard migrate`: the database's schema, brought up to date or looked at.

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::cli::LocalArgs;
use super::output::{Column, Format, message};
use crate::failure::{Exit, Failure};
use crate::{platform, up};

const COLUMNS: &[Column] = &[
    ("part", "/part"),
    ("version", "/version"),
    ("step", "/step"),
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard migrate
  asgard migrate --check     exits with 8 when something is to be done; a server may be running

'asgard up' does the same when it starts. Steps only go forward: make a backup first.")]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    local: LocalArgs,
    /// Only tell what would be done
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &MigrateArgs) -> anyhow::Result<()> {
    let settings = context.load(&args.local.flags())?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    if let Some(file) = settings.database.sqlite_file(&data_dir)
        && !file.exists()
    {
        let message = format!("there is no database {} yet", file.display());
        return Err(Failure::new(Exit::NotFound, message)
            .help("'asgard up' makes it; name another directory by --data-dir")
            .into());
    }
    let (db, steps) = if args.check {
        // Looking takes nothing from a server that runs.
        let db = db::Db::open_beside(&settings.database, &data_dir).await;
        let db = db.context("cannot open the database")?;
        let steps = db.pending(platform::MIGRATIONS).await;
        (db, steps)
    } else {
        let db = up::connect(&settings, &data_dir).await?;
        let steps = db.migrate(platform::MIGRATIONS).await;
        (db, steps)
    };
    db.close().await;
    let steps = steps?;
    let items: Vec<Value> = steps
        .iter()
        .map(|step| json!({"part": step.domain, "version": step.version, "step": step.name}))
        .collect();
    let output = args.local.remote.output;
    if output.format() != Format::Table || !items.is_empty() {
        output.list(&json!({ "steps": items }), &items, COLUMNS)?;
    }
    let quiet = output.quiet || output.format() != Format::Table;
    match (items.len(), args.check) {
        (0, _) if !quiet => message("the database is up to date"),
        (0, _) => {}
        (count, true) => {
            let message = format!("{count} steps are to be done");
            return Err(Failure::new(Exit::Pending, message)
                .help("make a backup ('asgard backup FILE'), then run 'asgard migrate'")
                .into());
        }
        (count, false) if !quiet => message(&format!("{count} steps done")),
        (_, false) => {}
    }
    Ok(())
}
