//! What happened to a view: when it was loaded into the online store, and which jobs read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use web::{ApiError, Identity, Timestamp};

use crate::FeatureStore;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::historical::Historical;
use crate::online::{Materialized, Span};
use crate::registry::PROJECT;
use crate::store::history::{self, LoadRow, ModelUseRow, ReadRow};

/// How long a load counts as under way without a word of its server.
const LEASE: Duration = Duration::from_secs(90);

/// What is said of a load whose server is gone.
const LEFT: &str = "the server ended while the load was under way; nothing is lost: load the view again (POST /feast/materialize-incremental), which begins where the last whole load ended";

/// How often it is noted that a model asks for features of a view.
const NOTED_EVERY: Duration = Duration::from_secs(60);

fn lease_from(now: i64) -> i64 {
    now.saturating_add(LEASE.as_millis() as i64)
}

/// When it was last noted that a model asked for features of a view; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<HashMap<ModelUse, Instant>>>);

/// Project, view, model, version.
type ModelUse = (String, String, String, i64);

impl Noted {
    /// Keeps those that were not noted of late, and notes them.
    fn new_of(&self, uses: impl Iterator<Item = ModelUse>) -> Vec<ModelUse> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, last| last.elapsed() < NOTED_EVERY);
        let now = Instant::now();
        uses.filter(|one| noted.insert(one.clone(), now).is_none())
            .collect()
    }
}

/// Tells what came of jobs; the binary knows.
pub type DescribeJobs =
    Arc<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<Vec<JobResult>, ApiError>> + Send + Sync>;

/// What came of a job.
#[derive(Debug, Clone)]
pub struct JobResult {
    pub job_id: String,
    pub status: String,
    pub model_name: String,
    /// The version that it registered.
    pub model_version: Option<String>,
    pub run_id: Option<String>,
}

impl FeatureStore {
    /// Notes that a load of a view has begun, so that a server that does not survive it leaves a
    /// trace.
    pub(crate) async fn begin_load(
        &self,
        view: &FeatureView,
        span: Span,
        started_at: i64,
    ) -> Result<LoadRow, Error> {
        let load = LoadRow {
            id: ulid::Ulid::new().to_string().to_lowercase(),
            mode: "running".to_owned(),
            snapshot_id: None,
            start_us: span.start_us.filter(|start| *start != i64::MIN),
            end_us: span.end_us,
            rows_read: 0,
            entities_written: 0,
            started_at,
            duration_ms: 0,
            error: None,
        };
        let mut tx = self.db.begin().await?;
        let until = lease_from(Timestamp::now().0);
        history::begin_load(&mut tx, &view.project, &view.name, &load, until).await?;
        tx.commit().await?;
        Ok(load)
    }

    /// Keeps the leases of loads for as long as the future is polled.
    pub(crate) async fn hold_loads(&self, ids: &[String]) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let renewed = async {
                let mut tx = self.db.begin().await?;
                for id in ids {
                    history::renew_load(&mut tx, id, lease_from(Timestamp::now().0)).await?;
                }
                tx.commit().await
            };
            if let Err(error) = renewed.await {
                tracing::warn!(%error, "the lease of a load could not be renewed");
            }
        }
    }

    /// Notes how a load of a view ended.
    pub(crate) async fn end_load(
        &self,
        mut load: LoadRow,
        duration_ms: i64,
        ended: &Result<Materialized, Error>,
    ) -> Result<(), Error> {
        load.duration_ms = duration_ms;
        match ended {
            Ok(done) => {
                load.mode = done.mode.as_str().to_owned();
                load.snapshot_id = done.snapshot_id;
                load.rows_read = done.rows_read as i64;
                load.entities_written = done.entities_written as i64;
            }
            Err(error) => {
                load.mode = "failed".to_owned();
                load.error = Some(error.message());
            }
        }
        let mut tx = self.db.begin().await?;
        history::end_load(&mut tx, &load).await?;
        Ok(tx.commit().await?)
    }

    /// Marks as failed what servers left under way that are gone. On a database of its own this
    /// server knows at its start that all of it is.
    pub(crate) async fn fail_left_loads(&self, at_start: bool) -> Result<(), Error> {
        let alone = at_start && self.db.backend() == db::Backend::Sqlite;
        let now = if alone { i64::MAX } else { Timestamp::now().0 };
        let mut tx = self.db.begin().await?;
        let left = history::fail_left_loads(&mut tx, now, LEFT).await?;
        tx.commit().await?;
        if left > 0 {
            tracing::warn!(left, "loads into the online store had been left under way");
        }
        Ok(())
    }

    /// Whether a view is being loaded by this server.
    pub(crate) fn is_loading(&self, view: &str) -> bool {
        self.online.is_materializing(PROJECT, view)
    }

    /// The newest loads of a view.
    ///
    /// # Errors
    /// When the view is not there.
    pub(crate) async fn loads(&self, view: &str, limit: i64) -> Result<Vec<LoadRow>, Error> {
        self.feature_view(PROJECT, view).await?;
        let mut conn = self.db.acquire().await?;
        Ok(history::list_loads(&mut conn, PROJECT, view, limit).await?)
    }

    /// Notes which views a job has read; other callers leave no trace.
    pub(crate) async fn note_read(
        &self,
        caller: &Identity,
        read: &Historical,
        now: i64,
    ) -> Result<(), Error> {
        let Identity::Job { job_id } = caller else {
            return Ok(());
        };
        let mut tx = self.db.begin().await?;
        for ((project, view), (_, _, snapshot_id)) in read.views.iter().zip(&read.snapshots) {
            let row = ReadRow {
                job_id: job_id.clone(),
                snapshot_id: *snapshot_id,
                read_at: now,
            };
            history::upsert_read(&mut tx, project, view, &row).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Notes that a model asked for features of views; once a minute at most. It is written beside
    /// the request: an inference neither waits for that nor fails with it.
    pub fn note_model_use(
        &self,
        project: &str,
        views: Vec<String>,
        model: &(String, i64),
        now: i64,
    ) {
        let uses = views.into_iter().map(|view| {
            let project = project.to_owned();
            (project, view, model.0.clone(), model.1)
        });
        let new = self.noted.new_of(uses);
        if new.is_empty() {
            return;
        }
        let store = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = store.write_model_uses(new, now).await {
                tracing::warn!(error = %error.message(), "noting that a model asked for features failed");
            }
        });
    }

    async fn write_model_uses(&self, uses: Vec<ModelUse>, now: i64) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        for (project, view, model, version) in uses {
            let model = (model, version);
            history::upsert_model_use(&mut tx, &project, &view, &model, now).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The models that asked for features of a view.
    pub(crate) async fn model_uses(
        &self,
        view: &str,
        limit: i64,
    ) -> Result<Vec<ModelUseRow>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(history::list_model_uses(&mut conn, PROJECT, view, limit).await?)
    }

    /// The jobs that read a view.
    ///
    /// # Errors
    /// When the view is not there.
    pub(crate) async fn reads(&self, view: &str, limit: i64) -> Result<Vec<ReadRow>, Error> {
        self.feature_view(PROJECT, view).await?;
        let mut conn = self.db.acquire().await?;
        Ok(history::list_reads(&mut conn, PROJECT, view, limit).await?)
    }
}
