//! Taking up what dead servers left: a job whose lease ended waits again, once, or has failed.

use tracking::{RunStatus, Tracking};
use web::Timestamp;

use crate::error::Error;
use crate::failure::{self, Failure};
use crate::job::{Job, Phase};
use crate::store::queue::{self, End, Holder};
use crate::work::chain;
use crate::{Jobs, telemetry};

/// How often a script is run at most; the second time only because a server died.
const ATTEMPTS: i64 = 2;
/// How often registering a model is taken up again.
const REGISTERING_ATTEMPTS: i64 = 5;

impl Jobs {
    /// Takes up the jobs of dead servers: those whose lease ended, or all that are leased.
    pub(crate) async fn recover(&self, only_expired: bool) {
        if let Err(error) = self.try_recover(only_expired).await {
            tracing::error!(error = %chain(&error), "looking for the jobs of dead servers failed");
        }
    }

    async fn try_recover(&self, only_expired: bool) -> Result<(), Error> {
        let expired_by = only_expired.then(|| Timestamp::now().0);
        let mut conn = self.db().acquire().await?;
        let lost = queue::list_lost(&mut conn, expired_by).await?;
        drop(conn);
        for job in lost {
            if self.take_up(&job, expired_by).await? {
                self.signals().notify(&job.job_id);
                self.inner.arrived.notify_one();
            }
        }
        Ok(())
    }

    /// Takes a lost job and ends its runs in one transaction: until then its server may turn out
    /// to be alive, and right after it another may run the job. False when it is not lost any more.
    async fn take_up(&self, job: &Job, expired_by: Option<i64>) -> Result<bool, Error> {
        let registering = job.phase == Some(Phase::Registering) && job.facts.exit_code == Some(0);
        let allowed = if registering {
            REGISTERING_ATTEMPTS
        } else {
            ATTEMPTS
        };
        let again = job.attempt < allowed && !job.cancel_requested && job.unreadable.is_none();
        let mut tx = self.db().begin().await?;
        let taken = if again {
            queue::requeue_lost(&mut tx, &job.job_id, job.attempt, expired_by).await?
        } else {
            let failure = given_up(job);
            let holder = Holder::Finder {
                attempt: job.attempt,
                expired_by,
            };
            let end = End::failed(&failure, Timestamp::now().0);
            queue::finish(&mut tx, &job.job_id, &holder, &end).await?
        };
        if !taken {
            return Ok(false);
        }
        if !(registering && again) {
            Tracking::end_runs_of_job_in(&mut tx, &job.job_id, RunStatus::Killed).await?;
        }
        if !again {
            self.tell_end(&mut tx, &job.job_id).await?;
        }
        tx.commit().await?;
        tracing::warn!(job_id = %job.job_id, attempt = job.attempt, again, "a job's server died under it");
        if !again {
            self.wake_webhooks();
            telemetry::count_end(&self.get(&job.job_id).await?);
        }
        Ok(true)
    }
}

/// Why a lost job is not run again.
fn given_up(job: &Job) -> Failure {
    match job.unreadable {
        Some(column) => failure::unreadable(column),
        None if job.cancel_requested => failure::cancelled("a request"),
        None => failure::lost(job.attempt),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use registry::Registry;
    use tracking::{Artifacts, NewRun};
    use web::Identity;

    use super::*;
    use crate::{Config, JobDoor, Parts, Submission, store};

    const SECOND: i64 = 1_000;

    async fn jobs(db: &db::Db, dir: &std::path::Path) -> Jobs {
        let artifacts = Artifacts::open(&tracking::ArtifactsConfig::default(), dir).unwrap();
        let tracking = Tracking::new(db.clone(), artifacts);
        tracking.ensure_default_experiment().await.unwrap();
        let sandbox = sandbox::Sandbox::detect(&sandbox::Config::default())
            .await
            .unwrap();
        let environments = environments::Config::default();
        let environments =
            environments::Environments::open(&environments, dir, sandbox.clone()).await;
        let parts = Parts {
            db: db.clone(),
            registry: Registry::new(db.clone(), tracking.clone()),
            tracking,
            environments: environments.unwrap(),
            sandbox,
            seal: db::Seal::with_key(&[7; 32]),
            door: JobDoor {
                url: String::new(),
                serve: Arc::new(|_, _, _| {}),
                feast_repo: None,
            },
        };
        Jobs::new(parts, Config::default(), dir)
    }

    /// A job that a server runs, with a run; the server's lease ends at `lease_until`.
    async fn running(jobs: &Jobs, lease_until: i64) -> (Job, String) {
        let body = serde_json::json!({
            "script_name": "s", "script_content": "x = 1", "experiment_name": "e", "model_name": "m"
        });
        let body = body.as_object().unwrap().clone();
        let submission = Submission::parse(body, jobs.config()).unwrap();
        jobs.submit(&submission, &Identity::Local).await.unwrap();
        let mut tx = jobs.db().begin().await.unwrap();
        let claimed = store::queue::claim(&mut tx, "other", 1, lease_until).await;
        tx.commit().await.unwrap();
        let (job, _) = claimed.unwrap().unwrap();
        let new = NewRun {
            experiment_id: "0".to_owned(),
            job_id: Some(job.job_id.clone()),
            ..NewRun::default()
        };
        let run = jobs.inner.parts.tracking.create_run(new).await.unwrap();
        (job, run.run_id)
    }

    async fn status(jobs: &Jobs, run_id: &str) -> RunStatus {
        let run = jobs.inner.parts.tracking.get_run(run_id).await;
        run.unwrap().status
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_job_whose_server_shows_to_be_alive_keeps_its_runs() {
        let migrations = [
            tracking::MIGRATIONS,
            registry::MIGRATIONS,
            crate::MIGRATIONS,
        ];
        for db in db::testing::both(&migrations).await {
            let dir = tempfile::tempdir().unwrap();
            let jobs = jobs(&db, dir.path()).await;
            let (job, run_id) = running(&jobs, SECOND).await;
            // Between being found and being taken its server renews the lease.
            let mut tx = jobs.db().begin().await.unwrap();
            let renewed = store::queue::renew(&mut tx, &job.job_id, "other", 9 * SECOND).await;
            assert_eq!(renewed.unwrap(), Some(false));
            tx.commit().await.unwrap();
            assert!(!jobs.take_up(&job, Some(5 * SECOND)).await.unwrap());
            assert_eq!(status(&jobs, &run_id).await, RunStatus::Running);

            assert!(jobs.take_up(&job, Some(10 * SECOND)).await.unwrap());
            assert_eq!(status(&jobs, &run_id).await, RunStatus::Killed);
            let waiting = jobs.get(&job.job_id).await.unwrap();
            assert_eq!(waiting.status, crate::Status::Queued, "{}", db.name);
        }
    }
}
