//! The running of a job's script.

use std::time::Duration;

use environments::Environment;
use tokio::sync::watch;

use super::{Attempt, Halt, halt};
use crate::execution::{Ended, Execution, Stopped};
use crate::failure;
use crate::imports;
use crate::job::Phase;
use crate::launch::{Bounds, Document, Interpreter, TOKEN_VARIABLE};
use crate::requirements::Plan;
use crate::warm;
use crate::{Jobs, token, variables};

/// How often a script's progress is stored.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

impl Attempt {
    /// Runs the script.
    pub(super) async fn execute(
        &mut self,
        environment: &Environment,
        plan: &Plan,
    ) -> Result<(), Halt> {
        let job_id = self.job.job_id.clone();
        let bounds = Bounds::of(&self.job.request, self.jobs.config());
        let token = token::generate()?;
        self.set_token(&token).await?;
        let interpreter = self.interpreter(environment, bounds).await?;
        let enforced = interpreter.process.enforced();
        for warning in &enforced.warnings {
            tracing::debug!(%job_id, warning, "isolation");
        }
        self.job.facts.isolation = serde_json::to_value(&enforced).ok();
        self.enter(Phase::Running).await?;
        self.log.line("Executing training script...").await;

        let (begun, mut begins) = watch::channel(None);
        let (progress, progresses) = watch::channel(None);
        let serve = self.jobs.inner.parts.door.serve.clone();
        let owner = job_id.clone();
        let modules = plan.modules.iter().cloned().collect();
        let script = self.script.clone();
        let file = self.job.request.script_file.clone();
        let mut secrets = variables::secrets(&self.job.request.environment_vars);
        secrets.push(token.clone());
        let execution = Execution {
            interpreter,
            document: Document {
                script: &script,
                file: &file,
                environment: self.variables(&token),
                files: self
                    .launcher
                    .files(self.jobs.inner.parts.door.feast_repo.as_ref()),
                autolog: self.job.request.autolog,
                packages: plan.packages_of(environment),
                modules,
                usual: ["numpy", "pandas", "scipy", "sklearn"],
            },
            timeout: Duration::from_secs(self.job.request.timeout_s.into()),
            log: &self.log.clone(),
            secrets: secrets.into(),
            stops: &self.stops.clone(),
            serve: &move |listener, closed| serve(listener, owner.clone(), closed),
            begun: &begun,
            progress: &progress,
        };
        let storing = tokio::spawn(store_progress(self.jobs.clone(), job_id, progresses));
        let ended = {
            let running = execution.run();
            tokio::pin!(running);
            loop {
                tokio::select! {
                    ended = &mut running => break ended?,
                    Ok(()) = begins.changed(), if self.job.script_started_at.is_none() => {
                        self.job.script_started_at = *begins.borrow_and_update();
                        // Early, but not at the cost of jobs that run.
                        if self.jobs.running().len() < self.jobs.config().slots() {
                            self.prewarm(environment, bounds);
                        }
                        // Another owner shows at the next heartbeat; here nothing may wait for it.
                        if let Err(error) = self.save(Phase::Running).await {
                            tracing::warn!(%error, "storing that a script began failed");
                        }
                    }
                }
            }
        };
        drop(progress);
        if storing.await.is_err() {
            tracing::error!("storing a job's progress panicked");
        }
        self.prewarm(environment, bounds);
        self.judge(&ended, bounds)
    }

    /// Takes a waiting interpreter, or starts one.
    async fn interpreter(
        &mut self,
        environment: &Environment,
        bounds: Bounds,
    ) -> Result<Interpreter, Halt> {
        let request = &self.job.request;
        let known_now = !request
            .environment_vars
            .keys()
            .any(|name| variables::is_read_at_import(name));
        let modules = warm::preload(&imports::dotted(&self.script));
        if known_now && let Some(interpreter) = self.warm.take(environment, bounds, &modules) {
            self.job.facts.warm_start = true;
            return Ok(interpreter);
        }
        let variables: Vec<(String, String)> =
            request.environment_vars.clone().into_iter().collect();
        let started = self
            .launcher
            .start(environment, bounds, &[], &variables)
            .await;
        Ok(started?)
    }

    /// Starts an interpreter for the next job like this one, in the background.
    fn prewarm(&self, environment: &Environment, bounds: Bounds) {
        let modules = warm::preload(&imports::dotted(&self.script));
        let (warm, environment) = (self.warm.clone(), environment.clone());
        let shutdown = self.stops.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = warm.refill(&environment, bounds, &modules) => {}
            }
        });
    }

    /// The job's own variables, later ones first in force.
    fn variables(&self, token: &str) -> Vec<(String, String)> {
        let request = &self.job.request;
        let mut variables: Vec<(String, String)> =
            request.environment_vars.clone().into_iter().collect();
        variables.extend([
            ("ASGARD_JOB_ID".to_owned(), self.job.job_id.clone()),
            (TOKEN_VARIABLE.to_owned(), token.to_owned()),
            (
                "MLFLOW_EXPERIMENT_NAME".to_owned(),
                request.experiment_name.clone(),
            ),
        ]);
        variables
    }

    fn judge(&mut self, ended: &Ended, bounds: Bounds) -> Result<(), Halt> {
        let facts = &mut self.job.facts;
        facts.exit_code = ended.exit.code;
        facts.peak_memory_bytes = Some(ended.exit.usage.peak_memory_bytes);
        facts.cpu_seconds = Some(ended.exit.usage.cpu_seconds);
        if let Some(stopped @ (Stopped::Lost | Stopped::Shutdown)) = ended.stopped {
            return Err(stopped.into());
        }
        let network = self.jobs.config().network;
        match failure::of_script(ended, &self.job, bounds.memory_bytes, network) {
            Some(failure) => Err(halt(failure)),
            None => Ok(()),
        }
    }
}

/// Stores a script's progress, not more often than is worth it.
async fn store_progress(jobs: Jobs, job_id: String, mut progress: watch::Receiver<Option<f64>>) {
    while progress.changed().await.is_ok() {
        let fraction = *progress.borrow_and_update();
        if let Some(fraction) = fraction
            && let Err(error) = jobs.report_progress(&job_id, fraction).await
        {
            tracing::warn!(%error, "storing a job's progress failed");
        }
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}
