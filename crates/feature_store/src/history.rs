//! What happened to a view: when it was loaded into the online store, and which jobs read it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use web::{ApiError, Identity};

use crate::FeatureStore;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::historical::Historical;
use crate::online::{Materialized, Span};
use crate::registry::PROJECT;
use crate::store::history::{self, LoadRow, ReadRow};

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
    /// Notes how a load of a view ended.
    pub(crate) async fn note_load(
        &self,
        view: &FeatureView,
        span: Span,
        started_at: i64,
        duration_ms: i64,
        ended: &Result<Materialized, Error>,
    ) -> Result<(), Error> {
        let (done, error) = match ended {
            Ok(done) => (Some(done), None),
            Err(error) => (None, Some(error.message())),
        };
        let load = LoadRow {
            id: ulid::Ulid::new().to_string().to_lowercase(),
            mode: done.map_or("failed", |done| done.mode.as_str()).to_owned(),
            snapshot_id: done.and_then(|done| done.snapshot_id),
            start_us: span.start_us.filter(|start| *start != i64::MIN),
            end_us: span.end_us,
            rows_read: done.map_or(0, |done| done.rows_read as i64),
            entities_written: done.map_or(0, |done| done.entities_written as i64),
            started_at,
            duration_ms,
            error,
        };
        let mut tx = self.db.begin().await?;
        history::insert_load(&mut tx, &view.project, &view.name, &load).await?;
        Ok(tx.commit().await?)
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
