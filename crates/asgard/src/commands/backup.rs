//! `asgard backup` and `asgard restore`.

use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use web::Timestamp;

use super::Context;
use super::cli::LocalArgs;
use super::output::{Format, message};
use crate::backup::{self, Extent, Places};
use crate::failure::{Exit, Failure};
use crate::features;
use crate::settings::Settings;
use crate::up;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard backup asgard.tar
  asgard backup - | zstd > asgard.tar.zst

The database and the artifacts of the data directory, the feature tables and online values, and the
secrets in it; a server may be running. Environments and caches are left out: they are made again.
With PostgreSQL use pg_dump, with S3 the bucket's versioning or replication.")]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    local: LocalArgs,
    /// The file to write, or - for the standard output
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard restore asgard.tar --data-dir /srv/asgard
  zstd -d < asgard.tar.zst | asgard restore -

Into a data directory without a database. A backup of an older version is brought up to date.")]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    local: LocalArgs,
    /// The file to read, or - for the standard input
    file: PathBuf,
}

pub(crate) async fn backup(context: &Context<'_>, args: &BackupArgs) -> anyhow::Result<()> {
    let settings = context.load(&args.local.flags())?.settings;
    let mut places = places(context, &settings)?;
    if !places.database.is_file() {
        let message = format!("there is no database {}", places.database.display());
        return Err(Failure::new(Exit::NotFound, message)
            .help("name the server's data directory by --data-dir")
            .into());
    }
    let near = folder_of(&args.file, &places.data_dir)?;
    let scratch = tempfile::TempDir::with_prefix_in(".asgard-backup-", near)?;
    let copy = scratch.path().join("asgard.db");
    db::snapshot(&places.database, &copy)
        .with_context(|| format!("copying the database {}", places.database.display()))?;
    places.database = copy;
    places.copies = live_files(&places.data_dir, scratch.path())?;
    let now = Timestamp::now().to_string();
    let extent = if args.file == Path::new("-") {
        backup::write(&places, now, BufWriter::new(io::stdout().lock()))?
    } else {
        write_file(&places, now, &args.file, scratch.path())?
    };
    told(&args.local, "backed up", extent, &args.file)
}

/// The catalog of the feature tables and the online values: what a server writes to.
const CATALOG: &str = "warehouse/catalog.db";
const ONLINE: &str = "online.redb";

/// Copies files that a server may be writing to, each as it was at one moment.
fn live_files(data_dir: &Path, scratch: &Path) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut copies = Vec::new();
    let catalog = data_dir.join(CATALOG);
    if catalog.is_file() {
        let copy = scratch.join("catalog.db");
        db::snapshot(&catalog, &copy)
            .with_context(|| format!("copying the catalog {}", catalog.display()))?;
        copies.push((CATALOG.into(), copy));
    }
    let online = data_dir.join(ONLINE);
    if online.is_file() {
        let copy = scratch.join(ONLINE);
        if features::copy_online(&online, &copy)
            .with_context(|| format!("copying the online values {}", online.display()))?
        {
            copies.push((ONLINE.into(), copy));
        } else {
            message(
                "left out: the online values, which are being written without a pause; 'asgard features materialize' makes them anew",
            );
        }
    }
    Ok(copies)
}

/// Where the copy of the database is made: beside the file that is to be written, where there
/// must be room for it anyway.
fn folder_of(file: &Path, data_dir: &Path) -> anyhow::Result<PathBuf> {
    if file == Path::new("-") {
        return Ok(data_dir.to_owned());
    }
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let real = folder.canonicalize();
    let real = real.with_context(|| format!("writing into {}", folder.display()))?;
    if real.starts_with(data_dir.canonicalize()?) {
        let message = format!("{} is inside the data directory", file.display());
        return Err(Failure::new(Exit::Usage, message)
            .help("name a file elsewhere: best on another disk")
            .into());
    }
    Ok(real)
}

/// Writes the file whole or not at all; it holds secrets, so only its owner may read it. It gathers
/// in `scratch`, a folder of the owner's beside it, where nobody else can have put anything.
fn write_file(places: &Places, now: String, file: &Path, scratch: &Path) -> anyhow::Result<Extent> {
    if file.exists() {
        let message = format!("{} exists already", file.display());
        return Err(Failure::new(Exit::Conflict, message)
            .help("choose another name, or remove it first")
            .into());
    }
    let part = scratch.join("backup.tar");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let opened = options.open(&part);
    let opened = opened.with_context(|| format!("writing {}", part.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, opened);
    let extent = backup::write(places, now, &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    fs::rename(&part, file).with_context(|| format!("writing {}", file.display()))?;
    Ok(extent)
}

pub(crate) async fn restore(context: &Context<'_>, args: &RestoreArgs) -> anyhow::Result<()> {
    let settings = context.load(&args.local.flags())?.settings;
    let places = places(context, &settings)?;
    crate::private_folder::make(&places.data_dir)
        .with_context(|| format!("making {}", places.data_dir.display()))?;
    let lock = db::DirLock::acquire(&places.data_dir)?;
    let extent = if args.file == Path::new("-") {
        backup::restore(io::stdin().lock(), &places)?
    } else {
        let file = fs::File::open(&args.file);
        let file = file.with_context(|| format!("reading {}", args.file.display()))?;
        backup::restore(BufReader::with_capacity(1 << 20, file), &places)?
    };
    drop(lock);
    let db = up::open_database(&settings, &places.data_dir).await?;
    db.close().await;
    told(&args.local, "restored", extent, &places.data_dir)
}

fn places(context: &Context<'_>, settings: &Settings) -> Result<Places, Failure> {
    let data_dir = up::data_dir(settings, context.surroundings)?;
    let artifacts = settings.artifacts.folder(&data_dir);
    let Some(database) = settings.database.sqlite_file(&data_dir) else {
        let of_artifacts = match &artifacts {
            Some(folder) => format!("copy {} after it", folder.display()),
            None => "protect the bucket by its versioning or replication".to_owned(),
        };
        return Err(Failure::new(
            Exit::Usage,
            "the database is PostgreSQL, which has a better tool for this",
        )
        .help(format!(
            "run 'pg_dump --format=custom --file=asgard.dump DATABASE_URL' and {of_artifacts}; 'pg_restore' brings it back"
        )));
    };
    Ok(Places {
        data_dir,
        database,
        artifacts,
        copies: Vec::new(),
    })
}

fn told(args: &LocalArgs, done: &str, extent: Extent, place: &Path) -> anyhow::Result<()> {
    let output = args.remote.output;
    if output.format() == Format::Table || place == Path::new("-") {
        if !output.quiet {
            message(&format!(
                "{done}: {} files, {} bytes, {}",
                extent.files,
                extent.size_bytes,
                place.display()
            ));
        }
        return Ok(());
    }
    let columns = [("files", "/files"), ("bytes", "/size_bytes")];
    Ok(output.one(&json!(extent), &columns)?)
}
