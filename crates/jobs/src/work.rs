//! The worker: takes waiting jobs, keeps their leases, ends them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use tracking::RunStatus;
use web::Timestamp;

use crate::attempt::{Attempt, End};
use crate::error::Error;
use crate::execution::Stops;
use crate::failure::{self, Failure};
use crate::job::{Job, Reason, Status};
use crate::launch::Launcher;
use crate::log::{Limits, LogWriter};
use crate::store::queue::{self, Holder};
use crate::warm::Warm;
use crate::{Jobs, telemetry};

/// How often the queue is looked at though nothing rang: jobs may come from another server.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Jobs {
    /// Runs jobs until `shutdown`; then gives the running ones back to the queue.
    pub async fn work(self, shutdown: CancellationToken) {
        let inner = &self.inner;
        let launcher = match Launcher::new(
            inner.parts.sandbox.clone(),
            inner.config.clone(),
            &inner.data_dir,
            inner.parts.door.url.clone(),
        ) {
            Ok(launcher) => launcher,
            Err(error) => {
                tracing::error!(error = %chain(&error), "no training job can run");
                return shutdown.cancelled().await;
            }
        };
        let warm = Warm::new(
            launcher.clone(),
            inner.config.warm_interpreters,
            Duration::from_secs(inner.config.warm_idle_s),
        );
        let worker = Worker {
            jobs: self.clone(),
            launcher,
            warm,
            tasks: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(inner.config.slots())),
            shutdown,
        };
        worker.run().await;
    }
}

#[derive(Clone)]
struct Worker {
    jobs: Jobs,
    launcher: Launcher,
    warm: Warm,
    tasks: TaskTracker,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Worker {
    async fn run(self) {
        // SQLite serves one process: whatever is leased belongs to one that is dead.
        let alone = self.jobs.db().backend() == db::Backend::Sqlite;
        self.jobs.recover(!alone).await;
        let tidy = self.tasks.spawn(self.clone().keep_tidy());
        while !self.shutdown.is_cancelled() {
            let permit = tokio::select! {
                () = self.shutdown.cancelled() => break,
                permit = self.slots.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            match self.claim().await {
                Ok(Some((job, script))) => {
                    let worker = self.clone();
                    let span = tracing::info_span!("job", job_id = %job.job_id);
                    let run = async move {
                        worker.run_job(job, script).await;
                        drop(permit);
                    };
                    self.tasks.spawn(run.instrument(span));
                }
                Ok(None) => {
                    drop(permit);
                    self.wait_for_arrival().await;
                }
                Err(error) => {
                    drop(permit);
                    tracing::error!(error = %chain(&error), "looking for the next job failed");
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.warm.clear();
        if tidy.await.is_err() {
            tracing::error!("keeping the jobs tidy panicked");
        }
    }

    async fn wait_for_arrival(&self) {
        tokio::select! {
            () = self.jobs.inner.arrived.notified() => {}
            () = self.shutdown.cancelled() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }

    async fn claim(&self) -> Result<Option<(Job, String)>, Error> {
        // A connection for reading tells cheaply that there is nothing to write.
        let waiting = self.jobs.queue_depth().await?;
        telemetry::gauge_queue(waiting, self.jobs.running().len());
        if waiting == 0 {
            return Ok(None);
        }
        let now = Timestamp::now().0;
        let mut tx = self.jobs.db().begin().await?;
        let claimed =
            queue::claim(&mut tx, &self.jobs.inner.owner, now, self.lease_until(now)).await?;
        tx.commit().await?;
        Ok(claimed.map(|(job, script)| (self.jobs.opened(job), script)))
    }

    fn lease_until(&self, now: i64) -> i64 {
        let lease = self.jobs.config().lease().as_millis();
        now + i64::try_from(lease).unwrap_or(i64::MAX / 2)
    }

    /// Looks for lost jobs and idle interpreters from time to time.
    async fn keep_tidy(self) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = sleep(self.jobs.config().heartbeat()) => {}
            }
            self.warm.tidy();
            self.jobs.recover(true).await;
        }
    }

    /// Runs a claimed job to its end, whatever happens.
    async fn run_job(self, job: Job, script: String) {
        let job_id = job.job_id.clone();
        let stops = Stops {
            cancelled: CancellationToken::new(),
            lost: CancellationToken::new(),
            shutdown: self.shutdown.clone(),
        };
        self.jobs
            .running()
            .insert(job_id.clone(), stops.cancelled.clone());
        // A request to cancel may have come between the claim and the line above.
        if job.cancel_requested {
            stops.cancelled.cancel();
        }
        tracing::info!(attempt = job.attempt, "a training job starts");
        let heartbeat = tokio::spawn(self.clone().keep_lease(job_id.clone(), stops.clone()));
        let end = match unfit(&job) {
            Some(failure) => End::Failed(failure),
            None => match self.attempt(job, script, &stops).await {
                Ok(end) => end,
                Err(error) => End::Failed(failure::infra(&error)),
            },
        };
        self.finish(&job_id, end, &stops).await;
        heartbeat.abort();
        self.jobs.running().remove(&job_id);
        self.jobs.signals().notify(&job_id);
    }

    /// Everything between the claim and the final state. All of the log is stored afterwards.
    async fn attempt(&self, job: Job, script: String, stops: &Stops) -> Result<End, Error> {
        let config = self.jobs.config();
        let limits = Limits {
            head: config.log_head_bytes,
            tail: config.log_tail_bytes,
        };
        let (log, keeper) = LogWriter::open(
            self.jobs.db().clone(),
            &job.job_id,
            limits,
            self.jobs.signals().clone(),
        )
        .await?;
        let job_id = job.job_id.clone();
        let mut attempt = Attempt {
            jobs: self.jobs.clone(),
            job,
            script,
            log,
            stops: stops.clone(),
            launcher: self.launcher.clone(),
            warm: self.warm.clone(),
        };
        let carried: JoinHandle<End> =
            tokio::spawn(async move { attempt.carry_out().await }.in_current_span());
        let end = match carried.await {
            Ok(end) => end,
            Err(panic) => self.after_panic(&job_id, &panic).await,
        };
        if keeper.await.is_err() {
            tracing::error!("the keeper of a log panicked");
        }
        Ok(end)
    }

    /// What an attempt that broke off would have done: nothing of the job may go on running.
    async fn after_panic(&self, job_id: &str, panic: &JoinError) -> End {
        tracing::error!(%panic, "an attempt at a job panicked");
        let tracking = &self.jobs.inner.parts.tracking;
        if let Err(error) = tracking.end_runs_of_job(job_id, RunStatus::Failed).await {
            tracing::error!(error = %chain(&error), "ending the runs of a failed job failed");
        }
        End::Failed(failure::infra(panic))
    }

    /// Renews the lease, hears of cancels on other servers, and stops the job when it is lost.
    async fn keep_lease(self, job_id: String, stops: Stops) {
        let lease = self.jobs.config().lease();
        let mut held_until = Instant::now() + lease;
        loop {
            sleep(self.jobs.config().heartbeat()).await;
            match self.renew(&job_id).await {
                Ok(Some(cancel)) => {
                    held_until = Instant::now() + lease;
                    if cancel {
                        stops.cancelled.cancel();
                    }
                }
                Ok(None) => {
                    stops.lost.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(job_id, error = %chain(&error), "renewing a job's lease failed");
                    if Instant::now() + self.jobs.config().heartbeat() > held_until {
                        stops.lost.cancel();
                        return;
                    }
                }
            }
        }
    }

    async fn renew(&self, job_id: &str) -> Result<Option<bool>, Error> {
        let until = self.lease_until(Timestamp::now().0);
        let mut tx = self.jobs.db().begin().await?;
        let renewed = queue::renew(&mut tx, job_id, &self.jobs.inner.owner, until).await?;
        tx.commit().await?;
        Ok(renewed)
    }

    /// Stores the final state, trying again while the lease is held.
    async fn finish(&self, job_id: &str, end: End, stops: &Stops) {
        loop {
            match self.try_finish(job_id, &end).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "storing the end of a job failed");
                }
            }
            tokio::select! {
                () = stops.lost.cancelled() => return,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn try_finish(&self, job_id: &str, end: &End) -> Result<(), Error> {
        let owner = &self.jobs.inner.owner;
        let row = match end {
            End::Completed => queue::End {
                status: Status::Completed,
                reason: None,
                error: None,
                now: Timestamp::now().0,
            },
            End::Failed(failure) => queue::End::failed(failure, Timestamp::now().0),
            End::Lost => {
                tracing::warn!("the job belongs to another server now");
                return Ok(());
            }
            End::Released => {
                let mut tx = self.jobs.db().begin().await?;
                queue::release(&mut tx, job_id, owner).await?;
                return Ok(tx.commit().await?);
            }
        };
        let mut tx = self.jobs.db().begin().await?;
        let ended = queue::finish(&mut tx, job_id, &Holder::Owner(owner), &row).await?;
        if ended {
            self.jobs.tell_end(&mut tx, job_id).await?;
        }
        tx.commit().await?;
        if ended {
            self.jobs.wake_webhooks();
            let job = self.jobs.get(job_id).await?;
            tracing::info!(
                status = row.status.as_str(),
                reason = job.reason.map(Reason::as_str),
                seconds = job.duration_seconds(),
                run_id = job.run_id,
                version = job.model_version,
                "a training job ended"
            );
            telemetry::count_end(&job);
            self.announce(job).await;
        }
        Ok(())
    }

    /// Says that the versions of a job are complete: the job's own first, then those of other models
    /// that its script registered.
    async fn announce(&self, job: Job) {
        let version = job.model_version.as_deref().map(str::parse);
        let own = match (job.status, version) {
            (Status::Completed, Some(Ok(version))) => Some((job.request.model_name, version)),
            _ => None,
        };
        let registry = &self.jobs.inner.parts.registry;
        if let Err(error) = registry.announce_of_job(&job.job_id, own).await {
            // What is not told of is compared when somebody asks it.
            tracing::debug!(error = %chain(&error), "what else a job registered is not told of");
        }
    }
}

/// Why a job cannot be run at all.
fn unfit(job: &Job) -> Option<Failure> {
    let sealed = job.sealed_variables.is_some();
    let sealed = || sealed.then(|| failure::sealed(&job.job_id));
    job.unreadable.map(failure::unreadable).or_else(sealed)
}

pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}
