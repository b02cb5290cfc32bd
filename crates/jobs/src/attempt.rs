//! One attempt at a job: its phases from the claim to the final state.

mod records;
mod script;

use std::time::{Duration, Instant};

use environments::{Environment, Step};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Jobs;
use crate::error::Error;
use crate::execution::{Stopped, Stops};
use crate::failure::{self, Failure};
use crate::job::{Job, Phase};
use crate::launch::Launcher;
use crate::log::LogWriter;
use crate::outcome::{self, Surroundings};
use crate::requirements::{self, Plan};
use crate::warm::Warm;

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
