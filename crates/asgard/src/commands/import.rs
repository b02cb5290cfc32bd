//! `asgard import`: another server's store becomes this one's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use registry::Registry;
use serde_json::json;
use tempfile::TempDir;
use tracking::{Artifacts, ArtifactsConfig, Tracking};

use super::Context;
use super::output::{Column, Format, OutputArgs, line, message};
use crate::failure::{Exit, Failure};
use crate::import::{Import, Report, Served};
use crate::settings::{Flags, Settings};
use crate::{platform, up};

const COLUMNS: &[Column] = &[
    ("kind", "/kind"),
    ("found", "/found"),
    ("new", "/new"),
    ("already here", "/here"),
    ("left", "/left"),
];

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Bring an MLflow server's database and artifacts over
    Mlflow(MlflowArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard import mlflow --from sqlite:///mlflow.db --artifacts ./mlartifacts --dry-run
  asgard import mlflow --from postgresql://user:password@host/mlflow --artifacts s3://models/mlflow

Ids, times, stages and what is deleted stay as they are. The other store is only read. Whatever
ends the import, run it again: what is here already stays as it is.")]
struct MlflowArgs {
    /// The other server's --backend-store-uri
    #[arg(long, value_name = "URL")]
    from: String,
    /// The other server's --artifacts-destination: a folder, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR|URL")]
    artifacts: Option<String>,
    /// Count, and look for what is in the way; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Where asgard keeps its data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context<'_>, args: &ImportArgs) -> anyhow::Result<()> {
    let ImportCommand::Mlflow(args) = &args.command;
    let started = Instant::now();
    let flags: Flags = super::cli::data_dir_flag(args.data_dir.as_ref())
        .into_iter()
        .collect();
    let mut settings = context.load(&flags)?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    let copied = match args.dry_run {
        true => copy_to_look_at(&mut settings, &data_dir)?,
        false => None,
    };
    let place = copied.as_ref().map_or(data_dir.as_path(), TempDir::path);
    let db = match (args.dry_run, &copied) {
        (true, None) => open_as_it_is(&settings, place).await?,
        _ => up::open_database(&settings, place).await.map_err(in_use)?,
    };
    let artifacts = match settings.artifacts.folder(&data_dir) {
        // Opening it would make it.
        Some(folder) if args.dry_run && !folder.exists() => place,
        _ => data_dir.as_path(),
    };
    let artifacts = Artifacts::open(&settings.artifacts, artifacts)
        .context("cannot open the artifact store (artifacts.url)")?;
    let tracking = Tracking::new(db.clone(), artifacts);
    let registry = Registry::new(db.clone(), tracking);
    let served = args.artifacts.as_deref();
    let served = served.map(|place| served_from(place, &settings.artifacts, &data_dir));
    let import = Import::open(&args.from, registry, served.transpose()?, args.dry_run);
    let quiet = args.output.quiet;
    let tell = |step: &str| {
        if !quiet {
            message(&format!(
                "{:>7.1} s  {step}",
                started.elapsed().as_secs_f64()
            ));
        }
    };
    let report = match import.await {
        Ok(import) => Box::pin(import.run(tell)).await,
        Err(error) => Err(error),
    };
    db.close().await;
    print(&report?, args.output)
}

fn in_use(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<db::Error>() {
        Some(db::Error::Locked { .. }) => Failure::new(Exit::Conflict, format!("{error:#}"))
            .help("stop the server while the import runs, or import into another --data-dir")
            .into(),
        _ => error,
    }
}

/// A folder with a copy of the SQLite database, or without one where there is none yet: a dry run
/// brings that up to date, and leaves nothing behind. The copy holds all that the database does, so it
/// lies beside it, where there is room for such files, and for this user alone.
fn copy_to_look_at(settings: &mut Settings, data_dir: &Path) -> anyhow::Result<Option<TempDir>> {
    let Some(file) = settings.database.sqlite_file(data_dir) else {
        return Ok(None);
    };
    let mut private = tempfile::Builder::new();
    private
        .prefix("asgard-import-")
        .permissions(Permissions::from_mode(0o700));
    let beside = file.parent().filter(|_| file.is_file());
    let folder = match beside {
        Some(beside) => private.tempdir_in(beside),
        None => private.tempdir(),
    };
    let folder = folder.with_context(|| {
        let place = beside.map_or_else(std::env::temp_dir, Path::to_owned);
        format!("cannot make a folder in {}", place.display())
    })?;
    if file.is_file() {
        db::snapshot(&file, &folder.path().join(db::SQLITE_FILE))
            .with_context(|| format!("copying the database {}", file.display()))?;
    }
    settings.database.url = None;
    Ok(Some(folder))
}

/// The database of a dry run where it cannot be copied: it must be up to date.
async fn open_as_it_is(settings: &Settings, data_dir: &Path) -> anyhow::Result<db::Db> {
    let db = up::connect(settings, data_dir).await?;
    if db.pending(platform::MIGRATIONS).await?.is_empty() {
        return Ok(db);
    }
    let message = "the database is older than this asgard, and a dry run does not change it";
    Err(Failure::new(Exit::Conflict, message)
        .help("make a backup, then run 'asgard migrate'")
        .into())
}

/// What the other server served artifacts from. A bucket is at the address, and opened with the
/// credentials, of the section `artifacts`.
fn served_from(place: &str, config: &ArtifactsConfig, data_dir: &Path) -> anyhow::Result<Served> {
    if !place.contains("://") {
        return Ok(Served::Folder(place.into()));
    }
    let config = ArtifactsConfig {
        url: Some(place.to_owned()),
        ..config.clone()
    };
    let bucket = Artifacts::open(&config, data_dir);
    Ok(Served::Bucket(bucket.with_context(|| {
        format!("cannot open --artifacts {place}")
    })?))
}

fn print(report: &Report, output: OutputArgs) -> anyhow::Result<()> {
    let whole = json!(report);
    let items = whole["kinds"].as_array().cloned().unwrap_or_default();
    if output.format() != Format::Table {
        return Ok(output.list(&whole, &items, COLUMNS)?);
    }
    output.list(&whole, &items, COLUMNS)?;
    if report.left.is_empty() {
        line("everything was taken")?;
    }
    for left in whole["left"].as_array().into_iter().flatten() {
        let what = left["what"].as_str().unwrap_or_default();
        let why = left["why"].as_str().unwrap_or_default();
        line(&format!("left: {} {what}: {why}", left["count"]))?;
    }
    if report.dry_run && !output.quiet {
        message("nothing was written: this was a dry run");
    }
    Ok(())
}
