//! Bringing an MLflow server's store over: what it tracked, its registry, its artifacts.
//!
//! Everything is read a list at a time and written in small transactions that leave alone what is
//! here, so memory is bounded and an import that was killed is simply run again.

mod evaluation_part;
mod files;
mod place;
mod registry_part;
mod report;
mod tracking_part;

use registry::Registry;
use tracking::import::Taken;
use tracking::{Location, Tracking};

use crate::failure::{Exit, Failure};
use crate::store::mlflow::Source;
use files::Copier;
pub(crate) use files::Served;
use report::Kind;

pub(crate) use report::Report;

/// The most things in the way that are named.
const NAMED: usize = 10;

/// An import from one MLflow store.
pub(crate) struct Import {
    source: Source,
    tracking: Tracking,
    registry: Registry,
    /// What the other server served artifacts from.
    served: Option<Served>,
    dry_run: bool,
    report: Report,
}

impl Import {
    /// Opens the store that a SQLAlchemy URL names.
    ///
    /// # Errors
    /// When it cannot be opened or is no store of MLflow; the message says what to do.
    pub(crate) async fn open(
        url: &str,
        registry: Registry,
        served: Option<Served>,
        dry_run: bool,
    ) -> anyhow::Result<Self> {
        let source = Source::open(url).await.map_err(|error| {
            Failure::of(Exit::Failure, &error)
                .help("give the URL that 'mlflow server --backend-store-uri' has")
        })?;
        let source = source.ok_or_else(|| {
            Failure::new(Exit::Failure, "the database holds no MLflow store")
                .help("give the URL that 'mlflow server --backend-store-uri' has")
        })?;
        match &served {
            Some(Served::Folder(folder)) if !folder.is_dir() => {
                let message = format!("there is no folder {}", folder.display());
                let help = "--artifacts is the folder of 'mlflow server --artifacts-destination', often ./mlartifacts";
                return Err(Failure::new(Exit::NotFound, message).help(help).into());
            }
            Some(Served::Bucket(bucket)) => {
                let listed = bucket.list(&Location::root()).await;
                listed.map_err(|error| {
                    Failure::of(Exit::Failure, &error)
                        .help("--artifacts names a bucket that this machine may read: see docs/storage.md for its address and credentials")
                })?;
            }
            _ => {}
        }
        Ok(Self {
            source,
            tracking: registry.tracking().clone(),
            registry,
            served,
            dry_run,
            report: Report::new(dry_run),
        })
    }

    /// Brings everything over, and tells each step before it begins.
    ///
    /// # Errors
    /// When something here has an id or name of what comes, before anything is written; else when
    /// a database or a file fails.
    pub(crate) async fn run(mut self, mut tell: impl FnMut(&str)) -> anyhow::Result<Report> {
        tell("looking for what is in the way");
        self.check_free().await?;
        tell("experiments and runs");
        self.experiments().await?;
        self.runs().await?;
        tell("metrics");
        self.metrics().await?;
        tell("datasets and logged models");
        self.datasets().await?;
        self.logged_models().await?;
        tell("traces");
        self.traces().await?;
        tell("evaluation datasets and scorers");
        self.evaluation().await?;
        tell("registered models");
        self.models().await?;
        self.versions().await?;
        tell("artifacts");
        self.artifacts().await?;
        for (table, rows) in self.source.without_a_place().await? {
            let why = "asgard has no place for them";
            self.report
                .leave(&format!("rows of the table {table}"), rows, why);
        }
        Ok(self.report.finish())
    }

    async fn check_free(&mut self) -> anyhow::Result<()> {
        let (mut in_the_way, tracking) = (Vec::new(), &self.tracking);
        self.source
            .experiments(async |coming| {
                let found = tracking.experiments_in_the_way(&coming).await?;
                in_the_way.extend(
                    found.into_iter().map(|found| {
                        format!("experiment {} ({:?})", found.experiment_id, found.name)
                    }),
                );
                anyhow::Ok(())
            })
            .await?;
        let registry = &self.registry;
        self.source
            .models(async |coming| {
                let found = registry.models_in_the_way(&coming).await?;
                in_the_way.extend(found.into_iter().map(|name| format!("model {name:?}")));
                anyhow::Ok(())
            })
            .await?;
        if in_the_way.is_empty() {
            return Ok(());
        }
        let more = in_the_way.len().saturating_sub(NAMED);
        in_the_way.truncate(NAMED);
        let mut names = in_the_way.join(", ");
        if more > 0 {
            names = format!("{names} and {more} more");
        }
        let message =
            format!("asgard has things of its own by the ids or names of what would come: {names}");
        let help = "import into an empty data directory (--data-dir), or rename or remove what is in the way; nothing was changed";
        Err(Failure::new(Exit::Conflict, message).help(help).into())
    }

    async fn artifacts(&mut self) -> anyhow::Result<()> {
        let artifacts = self.tracking.artifacts().clone();
        let served = self.served.take();
        let mut copier = Copier {
            to: &artifacts,
            served: served.as_ref(),
            dry_run: self.dry_run,
            files: Kind::of("artifact files"),
            bytes: 0,
        };
        self.copy_files(&mut copier).await?;
        let (files, bytes) = (copier.files, copier.bytes);
        self.report.add(files, 0);
        let mut size = Kind::of("artifact bytes");
        size.found = bytes;
        size.new = if self.dry_run { 0 } else { bytes };
        self.report.add(size, 0);
        Ok(())
    }
}

/// Counts a list, and writes it unless nothing is to be written.
async fn take<E>(
    kind: &mut Kind,
    dry_run: bool,
    found: usize,
    write: impl Future<Output = Result<Taken, E>>,
) -> Result<(), E> {
    if dry_run {
        kind.see(found);
    } else {
        kind.add(found, write.await?);
    }
    Ok(())
}
