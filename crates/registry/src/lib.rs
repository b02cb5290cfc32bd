//! The model registry: registered models, their versions, aliases and stages, over MLflow's own
//! routes and asgard's.
//!
//! Invariants: a version's source is inside this server's artifact store or at an address that
//! this server never reads; versions count up from 1 and a number is never used twice while its
//! model exists; an alias points at one existing version; no tag changes what is checked; a job adds
//! versions only to the model that its upload named, to a model that it made, and to a model that a
//! job of the same upload's name made (see [`JobUpload`]), and gives aliases and stages only to
//! versions that it made itself.

mod alias;
mod announced;
mod error;
mod event;
mod external;
mod http;
pub mod import;
mod job_upload;
mod model;
mod name;
mod register;
mod search;
mod selector;
mod source;
mod stage;
mod store;
mod version;

pub use announced::Announced;
pub use error::Error;
pub use http::{openapi, routes};
pub use job_upload::{JobUpload, JobUploads};
pub use model::RegisteredModel;
pub use register::{Registration, Subject};
pub use selector::Selector;
pub use stage::Stage;
pub use store::MIGRATIONS;
pub use version::{ENVIRONMENT_TAG, ModelVersion, NewVersion};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use db::Db;
use tokio_util::sync::CancellationToken;
use tracking::{External, Location, Tracking};
use webhooks::Webhooks;

/// Where servers on the same database tell each other that the registry changed.
const CHANGED: &str = "asgard_registry";

/// After a failure, how long until the database is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The handle of the registry; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    db: Db,
    tracking: Tracking,
    generation: Arc<AtomicU64>,
    announcements: tokio::sync::broadcast::Sender<Announced>,
    job_uploads: Option<JobUploads>,
    webhooks: Option<Webhooks>,
}

/// Finds the registered version whose files a place in the artifact store belongs to; tracking
/// asks, before there is a [`Registry`].
pub fn versions_at(db: Db) -> tracking::RegisteredAt {
    Arc::new(move |question| {
        let db = db.clone();
        Box::pin(async move {
            let mut conn = db.acquire().await?;
            let places = question.place.self_and_above().map(|place| place.uri());
            let places: Vec<String> = places.collect();
            let above = question.with_all_below.then(|| question.place.uri());
            let job_id = question.not_by_job.unwrap_or_default();
            let found =
                store::versions::find_around(&mut conn, &places, above.as_deref(), &job_id).await?;
            Ok(found.map(|(name, version)| format!("version {version} of model {name:?}")))
        })
    })
}

/// The same of an external MLflow server.
pub fn external_versions_at(external: External) -> tracking::RegisteredAt {
    Arc::new(move |question| {
        let external = external.clone();
        Box::pin(async move {
            let found = external::find_around(&external, &question).await?;
            Ok(found.map(|(name, version)| format!("version {version} of model {name:?}")))
        })
    })
}

impl Registry {
    /// The registry on a migrated database; its models' files are `tracking`'s artifacts.
    pub fn new(db: Db, tracking: Tracking) -> Self {
        Self {
            db,
            tracking,
            generation: Arc::new(AtomicU64::new(0)),
            announcements: announced::channel(),
            job_uploads: None,
            webhooks: None,
        }
    }

    /// The same registry, which asks here for the uploads of jobs. Without it a job adds versions
    /// only to models that it made.
    #[must_use]
    pub fn with_job_uploads(mut self, job_uploads: JobUploads) -> Self {
        self.job_uploads = Some(job_uploads);
        self
    }

    /// The same registry, which tells these webhooks what happens.
    #[must_use]
    pub fn with_webhooks(mut self, webhooks: Webhooks) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// The webhooks that are told what happens.
    pub fn webhooks(&self) -> Option<&Webhooks> {
        self.webhooks.as_ref()
    }

    /// The tracking that this registry's models come from.
    pub fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// A number that grows with every change made through this handle or its clones, and, while
    /// [`Self::work`] runs, through those of another server on the same PostgreSQL: what was
    /// resolved under another number may be out of date.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Hears of the changes that other servers make, until `stop`.
    pub async fn work(self, stop: CancellationToken) {
        let listening = async {
            loop {
                let Err(error) = self.listen().await else {
                    return;
                };
                tracing::warn!(%error, "changes of the registry by other servers are seen late");
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = stop.cancelled() => {}
        }
    }

    /// Returns when there are no other servers.
    async fn listen(&self) -> Result<(), Error> {
        let Some(mut changes) = self.db.listen(CHANGED).await? else {
            return Ok(());
        };
        loop {
            // Also at the beginning: what was said before was not heard.
            self.generation.fetch_add(1, Ordering::AcqRel);
            changes.heard().await?;
        }
    }

    /// How many registered models there are.
    pub async fn count(&self) -> Result<i64, Error> {
        if let Some(external) = self.tracking.external() {
            return external::count(external).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(store::models::count(&mut conn).await?)
    }

    /// The names of the first registered models, in alphabetical order.
    pub async fn names(&self, limit: i64) -> Result<Vec<String>, Error> {
        if let Some(external) = self.tracking.external() {
            let first = search::Search {
                max_results: Some(limit),
                ..search::Search::default()
            };
            let (models, _) = external::search(external, &first).await?;
            return Ok(models.into_iter().map(|model| model.name).collect());
        }
        let mut conn = self.db.acquire().await?;
        Ok(store::models::list_names(&mut conn, limit).await?)
    }

    /// The values that a tag of the server's own has on versions: the environments that they need.
    pub async fn tag_values(&self, key: &str) -> Result<Vec<String>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(store::versions::list_tag_values(&mut conn, key).await?)
    }

    /// A model and version, of any model, whose files are in this folder.
    pub async fn find_within(&self, folder: &Location) -> Result<Option<(String, i64)>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(store::versions::find_within(&mut conn, &folder.uri()).await?)
    }

    /// Commits a change and tells those who cache.
    async fn commit(&self, mut tx: db::Tx) -> Result<(), Error> {
        tx.notify(CHANGED).await?;
        let committed = tx.commit().await;
        // Also after a failure: the change may have reached the database.
        self.changed();
        if let Some(webhooks) = &self.webhooks {
            webhooks.wake();
        }
        Ok(committed?)
    }

    /// Tells those who cache that something may have changed.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
