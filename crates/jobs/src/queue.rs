//! Putting jobs in, reading them, cancelling them.

use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use web::{Identity, Permission, Timestamp};

use crate::error::Error;
use crate::failure;
use crate::job::{Job, Reason};
use crate::listing::{Filter, Page};
use crate::log::{Chunk, Excerpt, show};
use crate::store::jobs::NewRow;
use crate::store::queue::{End, Holder};
use crate::submission::Submission;
use crate::{Jobs, store};

/// How many chunks of a log are read at once.
const CHUNKS: i64 = 256;
/// How often a job that is waited for is looked at though nothing told of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The tag of the run and version of a job that was run again: the job whose script it is.
const RERUN_OF: &str = "rerun_of";

impl Jobs {
    /// Stores a job and puts it into the queue. The same idempotency key from the same caller
    /// gives the job that it made.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::IdempotencyKey`].
    pub async fn submit(&self, submission: &Submission, caller: &Identity) -> Result<Job, Error> {
        let given = submission.idempotency_key.as_deref();
        let key = given.map(|key| format!("{} {key}", caller.id()));
        let created_by = caller.label();
        let job_id = ulid::Ulid::new().to_string().to_lowercase();
        let request = &submission.request;
        let plain_hash = submission.hash();
        let request_hash = self.digest_of(request, &plain_hash);
        let sealed = self.seal_variables(&job_id, &request.environment_vars)?;
        let mut tx = self.db().begin().await?;
        let repeated = match &key {
            Some(key) => store::jobs::find_by_idempotency_key(&mut tx, key).await?,
            None => None,
        };
        let waiting = store::queue::count_waiting(&mut tx).await?;
        // A repeated request adds nothing to the queue.
        if repeated.is_none() && waiting >= self.config().queue_limit {
            return Err(Error::QueueFull { waiting });
        }
        let row = NewRow {
            job_id: &job_id,
            request,
            sealed_variables: sealed.as_deref(),
            script: &submission.script,
            warnings: &submission.warnings,
            idempotency_key: key.as_deref(),
            request_hash: &request_hash,
            created_by: &created_by,
            may_promote: caller.may(Permission::PromoteVersions),
            now: Timestamp::now().0,
        };
        let inserted = store::jobs::insert(&mut tx, &row).await?;
        let job = match &key {
            Some(key) if !inserted => {
                let found = store::jobs::find_by_idempotency_key(&mut tx, key).await?;
                let (hash, job) = found.ok_or_else(|| Error::NotFound(job_id.clone()))?;
                // Earlier versions kept the hash itself.
                if hash != request_hash && hash != plain_hash {
                    return Err(Error::IdempotencyKey(given.unwrap_or_default().to_owned()));
                }
                job
            }
            _ => store::jobs::find(&mut tx, &job_id)
                .await?
                .ok_or(Error::NotFound(job_id))?,
        };
        tx.commit().await?;
        if inserted {
            tracing::info!(
                job_id = %job.job_id, script = %job.request.script_name,
                model = %job.request.model_name, created_by, "a training job waits"
            );
            self.inner.arrived.notify_one();
        }
        Ok(self.opened(job))
    }

    /// A job by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, job_id: &str) -> Result<Job, Error> {
        let mut conn = self.db().acquire().await?;
        let found = store::jobs::find(&mut conn, job_id).await?;
        let job = found.ok_or_else(|| Error::NotFound(job_id.to_owned()))?;
        Ok(self.opened(job))
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn ended(&self, job_id: &str) -> Result<Job, Error> {
        let mut changes = self.signals().follow(job_id);
        loop {
            changes.mark_unchanged();
            let job = self.get(job_id).await?;
            if job.status.is_final() {
                return Ok(job);
            }
            // It may run on another server, whose signals are not seen here.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await {
                changes = self.signals().follow(job_id);
            }
        }
    }

    /// A page of jobs, newest first, and whether more follow.
    pub async fn list(&self, filter: &Filter, page: &Page) -> Result<(Vec<Job>, bool), Error> {
        let mut conn = self.db().acquire().await?;
        let mut jobs = store::jobs::list(&mut conn, filter, page).await?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = jobs.len() > limit;
        jobs.truncate(limit);
        let jobs = jobs.into_iter().map(|job| self.opened(job));
        Ok((jobs.collect(), more))
    }

    /// The script of a job.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn script(&self, job_id: &str) -> Result<String, Error> {
        let mut conn = self.db().acquire().await?;
        store::jobs::find_script(&mut conn, job_id)
            .await?
            .ok_or_else(|| Error::NotFound(job_id.to_owned()))
    }

    /// Puts into the queue again what a job ran: the same script, packages and settings. A script
    /// that names what it reads, as those of feature views name snapshots, reads the same.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::QueueFull`], and [`Error::Unreadable`] or [`Error::Sealed`] for
    /// a job that cannot be read any more.
    pub async fn rerun(
        &self,
        job_id: &str,
        idempotency_key: Option<String>,
        caller: &Identity,
    ) -> Result<Job, Error> {
        let job = self.get(job_id).await?;
        if let Some(column) = job.unreadable {
            return Err(Error::Unreadable {
                job_id: job.job_id,
                column,
            });
        }
        if job.sealed_variables.is_some() {
            return Err(Error::Sealed(job.job_id));
        }
        let mut request = job.request;
        request.tags.insert(RERUN_OF.to_owned(), job_id.to_owned());
        let submission = Submission {
            request,
            script: self.script(job_id).await?,
            idempotency_key,
            warnings: Vec::new(),
        };
        self.submit(&submission, caller).await
    }

    /// Chunks of a job's log from the one that holds the byte `from` on.
    pub async fn log_chunks(&self, job_id: &str, from: i64) -> Result<Vec<Chunk>, Error> {
        let mut conn = self.db().acquire().await?;
        Ok(store::logs::list_from(&mut conn, job_id, from, CHUNKS).await?)
    }

    /// All that is stored of a job's log from the byte `from` on, as text.
    pub async fn log(&self, job_id: &str, from: i64) -> Result<Excerpt, Error> {
        let mut whole = Excerpt {
            text: String::new(),
            next: from,
        };
        loop {
            let part = show(&self.log_chunks(job_id, whole.next).await?, whole.next);
            if part.text.is_empty() {
                return Ok(whole);
            }
            whole.text.push_str(&part.text);
            whole.next = part.next;
        }
    }

    /// Stops a job that waits or runs; one that was cancelled before is answered as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Finished`].
    pub async fn cancel(&self, job_id: &str, caller: &str) -> Result<Job, Error> {
        let mut tx = self.db().begin().await?;
        let failure = failure::cancelled(caller);
        let end = End::failed(&failure, Timestamp::now().0);
        let ended = store::queue::finish(&mut tx, job_id, &Holder::Nobody, &end).await?;
        if ended {
            self.tell_end(&mut tx, job_id).await?;
        }
        let asked = !ended && store::queue::request_cancel(&mut tx, job_id).await?;
        let job = store::jobs::find(&mut tx, job_id)
            .await?
            .ok_or_else(|| Error::NotFound(job_id.to_owned()))?;
        tx.commit().await?;
        if !ended && !asked && job.reason != Some(Reason::Cancelled) {
            return Err(Error::Finished {
                job_id: job_id.to_owned(),
                status: job.status,
            });
        }
        tracing::info!(job_id, caller, "a job is cancelled");
        if asked && let Some(stop) = self.running().get(job_id) {
            stop.cancel();
        }
        if ended {
            self.wake_webhooks();
            crate::telemetry::count_end(&job);
        }
        self.signals().notify(job_id);
        Ok(self.opened(job))
    }

    /// Stores how far a running job says it is, from 0.0 to 1.0.
    pub async fn report_progress(&self, job_id: &str, progress: f64) -> Result<bool, Error> {
        let mut tx = self.db().begin().await?;
        let stored = store::jobs::update_progress(&mut tx, job_id, progress).await?;
        tx.commit().await?;
        self.signals().notify(job_id);
        Ok(stored)
    }

    /// How many jobs wait.
    pub async fn queue_depth(&self) -> Result<i64, Error> {
        let mut conn = self.db().acquire().await?;
        Ok(store::queue::count_waiting(&mut conn).await?)
    }

    pub(crate) fn running(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, CancellationToken>> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
