//! One attempt at a job: its phases from the claim to the final state.

use std::time::{Duration, Instant};

use environments::{Environment, Step};
use tokio::sync::watch;
use tokio::time::timeout;
use tracking::RunStatus;

use crate::error::Error;
use crate::execution::{Ended, Execution, Stopped, Stops};
use crate::failure::{self, Failure};
use crate::imports;
use crate::job::{Job, Phase};
use crate::launch::{Bounds, Document, Interpreter, Launcher, TOKEN_VARIABLE};
use crate::log::LogWriter;
use crate::outcome::{self, Outcome, Surroundings};
use crate::requirements::{self, Plan};
use crate::store::queue::Progress;
use crate::warm::{self, Warm};
use crate::{Jobs, store, token, variables};

/// How often a script's progress is stored.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How long a job waits for an external MLflow server before it fails, and how often it asks.
const AWAY_LIMIT: Duration = Duration::from_secs(300);
const AWAY_PAUSE: Duration = Duration::from_secs(5);

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum End {
    Completed,
    Failed(Failure),
    /// The job belongs to another server now: nothing of it may be changed.
    Lost,
    /// This server stops: the job goes back into the queue.
    Released,
}

/// What an attempt works with.
pub(crate) struct Attempt {
    pub(crate) jobs: Jobs,
    pub(crate) job: Job,
    pub(crate) script: String,
    pub(crate) log: LogWriter,
    pub(crate) stops: Stops,
    pub(crate) launcher: Launcher,
    pub(crate) warm: Warm,
}

/// Why an attempt goes no further.
enum Halt {
    Failed(Box<Failure>),
    Stopped(Stopped),
}

fn halt(failure: Failure) -> Halt {
    Halt::Failed(Box::new(failure))
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        match error {
            Error::NotOurs(_) => Self::Stopped(Stopped::Lost),
            other => halt(failure::infra(&other)),
        }
    }
}

impl From<Stopped> for Halt {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl Attempt {
    /// Carries the job as far as it goes.
    pub(crate) async fn carry_out(&mut self) -> End {
        let halted = self.phases().await;
        let failure = match halted {
            Ok(()) => None,
            Err(Halt::Stopped(Stopped::Lost)) => return End::Lost,
            Err(Halt::Stopped(Stopped::Shutdown)) => {
                return self.hand_back().await;
            }
            Err(Halt::Stopped(_)) => Some(failure::cancelled("a request")),
            Err(Halt::Failed(failure)) => Some(*failure),
        };
        let Some(failure) = failure else {
            return End::Completed;
        };
        self.close(&failure).await;
        End::Failed(failure)
    }

    async fn phases(&mut self) -> Result<(), Halt> {
        // A server that died while it registered a model does not run the script again for it.
        let resumed = self.job.phase == Some(Phase::Registering)
            && self.job.facts.exit_code == Some(0)
            && self.job.attempt > 1;
        let plan = requirements::plan(&self.job.request, &self.script, self.jobs.config());
        let plan = plan.map_err(|error| halt(failure::of_preparation(error)))?;
        if resumed {
            self.log
                .line("The server was restarted while it registered the model: going on with it")
                .await;
            let key = self.job.facts.environment.clone().unwrap_or_default();
            let environment = self.jobs.inner.parts.environments.find(&key).await;
            return self.register(environment.as_ref(), &plan).await;
        }
        if self.job.attempt > 1 {
            let attempt = self.job.attempt;
            self.log
                .line(format!("The server was restarted while the job ran: starting it again (attempt {attempt})"))
                .await;
        }
        let registry = &self.jobs.inner.parts.registry;
        self.job.facts.left_behind = outcome::left_behind(registry, &self.job.job_id).await?;
        let environment = self.prepare(&plan).await?;
        self.execute(&environment, &plan).await?;
        self.register(Some(&environment), &plan).await
    }

    /// Makes the experiment and the environment ready.
    async fn prepare(&mut self, plan: &Plan) -> Result<Environment, Halt> {
        let experiment = &self.job.request.experiment_name;
        let tracking = &self.jobs.inner.parts.tracking;
        tracking
            .ensure_experiment(experiment)
            .await
            .map_err(Error::from)?;
        for note in &plan.notes {
            self.log.line(note).await;
        }
        self.log.line("Installing requirements...").await;
        self.enter(Phase::Installing).await?;
        let (steps, mut said) = watch::channel(None);
        let progress = move |step: Step| {
            steps.send_replace(Some(step));
        };
        let environments = self.jobs.inner.parts.environments.clone();
        let request = plan.environment.clone();
        let building = async move { environments.ensure(&request, &progress).await };
        let log = self.log.clone();
        let telling = tokio::spawn(async move {
            while said.changed().await.is_ok() {
                let step = said.borrow_and_update().clone();
                if let Some(line) = step.and_then(|step| tell(&step)) {
                    log.line(line).await;
                }
            }
        });
        let limit = self.jobs.config().install_timeout();
        let built = tokio::select! {
            built = timeout(limit, building) => built,
            stopped = self.stops.any() => return Err(stopped.into()),
        };
        let told = telling.await;
        debug_assert!(told.is_ok(), "telling the steps does not panic");
        match built {
            Err(_) => Err(halt(failure::install_timeout(limit.as_secs()))),
            Ok(Err(error)) => {
                if let Some(output) = error.output() {
                    self.log.line(output.trim_end()).await;
                }
                Err(halt(failure::of_preparation(error.into())))
            }
            Ok(Ok(environment)) => {
                self.log.line("✓ Dependencies installed successfully").await;
                self.job.facts.environment = Some(environment.key.clone());
                self.job.facts.python_version = Some(environment.python_version.clone());
                Ok(environment)
            }
        }
    }

    /// Runs the script.
    async fn execute(&mut self, environment: &Environment, plan: &Plan) -> Result<(), Halt> {
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

    /// Finds what the script made and registers its model.
    async fn register(
        &mut self,
        environment: Option<&Environment>,
        plan: &Plan,
    ) -> Result<(), Halt> {
        self.enter(Phase::Registering).await?;
        let packages = environment
            .map(|environment| plan.packages_of(environment))
            .unwrap_or_default();
        let python_version = self.job.facts.python_version.clone();
        let surroundings = Surroundings {
            environment: self.job.facts.environment.as_deref(),
            python_version: python_version.as_deref().unwrap_or("3.11"),
            packages: &packages,
        };
        let began = Instant::now();
        let outcome = loop {
            let registry = &self.jobs.inner.parts.registry;
            match outcome::register(registry, &self.job, &surroundings).await {
                // What the script did in hours is not lost over a restart of another server.
                Err(error) if error.is_away() && began.elapsed() < AWAY_LIMIT => {
                    self.log.line(format!("⚠ {error}: waiting for it")).await;
                    tokio::select! {
                        () = tokio::time::sleep(AWAY_PAUSE) => {}
                        stopped = self.stops.any() => return Err(stopped.into()),
                    }
                }
                done => break done?,
            }
        };
        let failure = outcome.failure.clone();
        self.take_over(outcome).await;
        self.save(Phase::Registering).await?;
        match failure {
            Some(failure) => Err(halt(failure)),
            None => Ok(()),
        }
    }

    async fn take_over(&mut self, outcome: Outcome) {
        for note in &outcome.notes {
            self.log.line(note).await;
        }
        if let Some(run_id) = &outcome.run_id {
            self.log.line(format!("Run ID: {run_id}")).await;
        }
        if let Some(version) = &outcome.version {
            self.log
                .line(format!(
                    "✓ Model registered: {} version {}",
                    version.name, version.version
                ))
                .await;
        }
        for warning in &outcome.warnings {
            self.log.line(format!("⚠ {}", warning.told())).await;
        }
        self.tell_failed_uploads().await;
        self.job.run_id = outcome.run_id;
        self.job.model_version = outcome.version.as_ref().map(|v| v.version.to_string());
        self.job.warnings.extend(outcome.warnings);
        let facts = &mut self.job.facts;
        facts.model_uri = outcome
            .version
            .map(|v| format!("models:/{}/{}", v.name, v.version));
        facts.run_ids = outcome.run_ids;
        facts.model_ids = outcome.model_ids;
        facts.run_experiment = outcome.other_experiment;
    }

    /// A script may have caught the error of an upload, or lost it in a thread.
    async fn tell_failed_uploads(&mut self) {
        let tracking = &self.jobs.inner.parts.tracking;
        let failed = tracking.take_failed_uploads(&self.job.job_id);
        if failed.is_empty() {
            return;
        }
        let warning = failure::artifacts_not_stored(&failed);
        self.log.line(format!("⚠ {}", warning.told())).await;
        self.job.warnings.push(warning);
    }

    /// Ends the runs of a job that failed and says in the log why it did.
    async fn close(&mut self, failure: &Failure) {
        let tracking = &self.jobs.inner.parts.tracking;
        let status = if failure.reason == crate::job::Reason::Cancelled {
            RunStatus::Killed
        } else {
            RunStatus::Failed
        };
        match outcome::close(tracking, &self.job, status).await {
            Ok(outcome) => {
                if let Some(run_id) = &outcome.run_id
                    && self.job.run_id.is_none()
                {
                    self.log.line(format!("Run ID: {run_id}")).await;
                }
                self.job.run_id = self.job.run_id.take().or(outcome.run_id);
                self.job.facts.run_ids = outcome.run_ids;
                self.job.facts.model_ids = outcome.model_ids;
            }
            Err(error) => tracing::error!(%error, "ending the runs of a failed job failed"),
        }
        self.tell_failed_uploads().await;
        self.log.line(format!("✗ {}", failure.problem.told())).await;
        let phase = self.job.phase.unwrap_or(Phase::Preparing);
        if let Err(error) = self.save(phase).await {
            tracing::warn!(%error, "storing what a failed job left failed");
        }
    }

    async fn hand_back(&mut self) -> End {
        let tracking = &self.jobs.inner.parts.tracking;
        let killed = tracking
            .end_runs_of_job(&self.job.job_id, RunStatus::Killed)
            .await;
        if let Err(error) = killed {
            tracing::warn!(%error, "ending the runs of an interrupted job failed");
        }
        self.log
            .line("The server is stopping: the job starts again when it is back")
            .await;
        End::Released
    }

    async fn enter(&mut self, phase: Phase) -> Result<(), Error> {
        self.job.phase = Some(phase);
        self.save(phase).await
    }

    /// Stores what is known of the job.
    async fn save(&self, phase: Phase) -> Result<(), Error> {
        let progress = Progress {
            phase,
            script_started_at: self.job.script_started_at,
            run_id: self.job.run_id.as_deref(),
            model_version: self.job.model_version.as_deref(),
            warnings: &self.job.warnings,
            facts: &self.job.facts,
        };
        let mut tx = self.jobs.db().begin().await?;
        let owner = &self.jobs.inner.owner;
        let ours = store::queue::update(&mut tx, &self.job.job_id, owner, &progress).await?;
        tx.commit().await?;
        self.jobs.signals().notify(&self.job.job_id);
        if ours {
            Ok(())
        } else {
            Err(Error::NotOurs(self.job.job_id.clone()))
        }
    }

    async fn set_token(&self, token: &str) -> Result<(), Error> {
        let owner = &self.jobs.inner.owner;
        let mut tx = self.jobs.db().begin().await?;
        let hash = token::hash(token);
        let ours = store::queue::set_token(&mut tx, &self.job.job_id, owner, &hash).await?;
        tx.commit().await?;
        if ours {
            Ok(())
        } else {
            Err(Error::NotOurs(self.job.job_id.clone()))
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

fn tell(step: &Step) -> Option<String> {
    match step {
        Step::Installing { packages } => Some(format!("Installing {packages} packages")),
        Step::Ready {
            packages,
            cached: true,
        } => Some(format!(
            "Using the environment built before ({packages} packages)"
        )),
        Step::Resolving | Step::Probing | Step::Ready { .. } => None,
    }
}
