//! Leading one deployment through its phases. Each begins from the row alone, so that it can be
//! taken up again by whoever finds it.

use std::collections::HashSet;

use jobs::{Job, Reason, Status, Submission};
use registry::{ModelVersion, Selector};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use web::{Code, Identity, Role, Timestamp};

use crate::deployment::{Deployment, Failure, Fault, State, Target};
use crate::environment::Opened;
use crate::error::Error;
use crate::local::Endpoint;
use crate::log::PLATFORM;
use crate::manage::{give_rest, others};
use crate::{Deployments, store};

/// How often a deployment is taken up; beyond it, the server seems to die of it.
const ATTEMPTS: i64 = 5;

/// Why leading a deployment ended before its end.
pub(crate) enum Stop {
    /// It failed, and that is its end.
    Failed(Failure),
    /// It was removed, or the server stops.
    Left,
    /// The database does not do what it should; it is taken up again.
    Broken(Error),
}

/// Where an endpoint is reached.
pub(crate) enum Address {
    /// At a port of this machine.
    Port(u16),
    /// Elsewhere.
    Url(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl Deployments {
    /// Leads a deployment to its end, or to where `stop` is cancelled.
    pub(crate) async fn lead(
        &self,
        deployment: Deployment,
        stop: CancellationToken,
        shutdown: &CancellationToken,
    ) {
        let id = deployment.id.clone();
        let led = stop
            .run_until_cancelled(Box::pin(self.phases(deployment)))
            .await;
        let ended = match led.unwrap_or(Err(Stop::Left)) {
            Ok(()) => return,
            Err(Stop::Failed(failure)) => self.fail(&id, failure).await,
            Err(Stop::Left) if shutdown.is_cancelled() => self.give_back(&id).await,
            Err(Stop::Left) => self.stop_training(&id).await,
            Err(Stop::Broken(error)) => self.broken(&id, error).await,
        };
        if let Err(error) = ended {
            tracing::error!(%error, "a deployment cannot go on now");
            tokio::time::sleep(crate::create::LOOK_AGAIN).await;
        }
    }

    /// Tries again what may pass, and fails what will not.
    async fn broken(&self, id: &str, error: Error) -> Result<(), Error> {
        let passes = [Code::Unavailable, Code::TooMany, Code::InsufficientStorage];
        if passes.contains(&error.code()) {
            self.give_back(id).await?;
            return Err(error);
        }
        tracing::error!(%error, "a deployment cannot go on");
        self.fail(id, error.failure()).await
    }

    async fn phases(&self, deployment: Deployment) -> Result<(), Stop> {
        let mut tx = self.db().begin().await?;
        let begun = store::changes::begin_attempt(&mut tx, &deployment.id).await?;
        tx.commit().await?;
        if !begun {
            return Err(Stop::Left);
        }
        if deployment.attempt >= ATTEMPTS {
            return Err(lost(deployment.attempt).into());
        }
        let mut deployment = self.opened(deployment)?;
        let version = match deployment.model_version {
            Some(version) => self.registered(&deployment, version).await?,
            None => self.train(&mut deployment).await?,
        };
        self.enter(&mut deployment, State::Building).await?;
        match deployment.order.target {
            Target::Local => self.lead_here(deployment, version).await,
            Target::Kubernetes => Box::pin(self.lead_in_cluster(deployment, version)).await,
        }
    }

    /// The phases of a deployment on this machine, after its model is known.
    async fn lead_here(&self, mut deployment: Opened, version: ModelVersion) -> Result<(), Stop> {
        let variables = deployment.variables().clone().into();
        let serving = &self.inner.parts.serving;
        let prepared = serving.prepare(&version, &variables).await;
        let model = prepared.map_err(|error| of_serving(&error))?;
        let packages = model.environment.as_ref().map_or(0, |e| e.packages.len());
        let line = format!("✓ environment of {packages} packages, model files");
        self.tell(&deployment, line).await;
        self.enter(&mut deployment, State::Deploying).await?;
        self.inner.local.start(self, &deployment, model).await?;
        let port = self.reach(&deployment).await?;
        self.succeed(&deployment, Address::Port(port)).await
    }

    /// Trains the script as an ordinary job and finds the version that it registered.
    async fn train(&self, deployment: &mut Deployment) -> Result<ModelVersion, Stop> {
        self.enter(deployment, State::Training).await?;
        let jobs = &self.inner.parts.jobs;
        let job_id = match &deployment.training_job_id {
            Some(job_id) => job_id.clone(),
            None => self.submit(deployment).await?,
        };
        let job = jobs.ended(&job_id).await?;
        let version = job.model_version.as_deref().map(str::parse::<i64>);
        let (Status::Completed, Some(Ok(version))) = (job.status, version) else {
            return Err(of_training(&job).into());
        };
        let mut tx = self.db().begin().await?;
        let run_id = job.run_id.as_deref();
        store::changes::set_version(&mut tx, &deployment.id, version, run_id).await?;
        tx.commit().await?;
        deployment.model_version = Some(version);
        self.tell(deployment, format!("✓ trained version {version}"))
            .await;
        self.registered(deployment, version).await
    }

    /// Submits the training job; the key finds it again when the server dies in between.
    async fn submit(&self, deployment: &mut Deployment) -> Result<String, Stop> {
        let mut conn = self.db().acquire().await?;
        let training = store::deployments::find_training(&mut conn, &deployment.id).await?;
        drop(conn);
        let training = training
            .map(|stored| self.open_training(&deployment.id, stored))
            .transpose()?;
        let training: Option<Map<String, Value>> =
            training.and_then(|text| serde_json::from_str(&text).ok());
        let training = training.ok_or_else(|| Error::Stored {
            id: deployment.id.clone(),
            column: "training",
        })?;
        let jobs = &self.inner.parts.jobs;
        let mut submission = Submission::parse(training, jobs.config())?;
        submission.idempotency_key = Some(format!("deployment {}", deployment.id));
        let job = jobs.submit(&submission, &asker(deployment)).await?;
        let mut tx = self.db().begin().await?;
        store::changes::set_training_job(&mut tx, &deployment.id, &job.job_id).await?;
        tx.commit().await?;
        let line = format!("training as job {}", job.job_id);
        self.tell(deployment, line).await;
        deployment.training_job_id = Some(job.job_id.clone());
        Ok(job.job_id)
    }

    async fn registered(
        &self,
        deployment: &Deployment,
        version: i64,
    ) -> Result<ModelVersion, Stop> {
        let name = &deployment.order.model_name;
        let selector = Selector::Number(version);
        let found = self.inner.parts.registry.resolve(name, &selector).await;
        let version = found.map_err(|error| match error.code() {
            Code::NotFound => Stop::Failed(Failure::new(
                Fault::Script,
                "version_not_found",
                "Model version not found",
                format!("version {version} of model {name:?} is gone"),
                Some("deploy another version".to_owned()),
            )),
            _ => Stop::Broken(error.into()),
        })?;
        if deployment.run_id.is_none() && version.run_id.is_some() {
            let mut tx = self.db().begin().await?;
            let run_id = version.run_id.as_deref();
            store::changes::set_version(&mut tx, &deployment.id, version.version, run_id).await?;
            tx.commit().await?;
        }
        Ok(version)
    }

    /// Begins a phase.
    pub(crate) async fn enter(
        &self,
        deployment: &mut Deployment,
        state: State,
    ) -> Result<(), Stop> {
        let timings = deployment.timings_in(state, Timestamp::now().0);
        let mut tx = self.db().begin().await?;
        let entered = store::changes::enter(&mut tx, &deployment.id, state, &timings).await?;
        tx.commit().await?;
        if !entered {
            return Err(Stop::Left);
        }
        deployment.state = state;
        deployment.timings = timings;
        tracing::info!(state = state.as_str(), "a deployment goes on");
        self.changed();
        Ok(())
    }

    /// Gives the endpoint of a deployment a port that it can be reached at.
    async fn reach(&self, deployment: &Deployment) -> Result<u16, Stop> {
        let order = &deployment.order;
        let (namespace, name) = (&order.namespace, &order.model_name);
        let inner = &self.inner;
        // One at a time, so that no two bind different ports for one endpoint.
        let _sharing = inner.sharing.lock().await;
        let mut conn = self.db().acquire().await?;
        let known = store::endpoints::find_port(&mut conn, namespace, name).await?;
        let live = store::deployments::list_live_of(&mut conn, namespace, name).await?;
        let taken = store::endpoints::list_ports(&mut conn, &inner.machine).await?;
        drop(conn);
        let taken: HashSet<u16> = taken.into_values().collect();
        // The address of what answers already stays, also while another program has its port.
        if let (Some(port), false) = (known, live.is_empty()) {
            return Ok(port);
        }
        let free =
            (inner.config.first_port..=inner.config.last_port).filter(|port| !taken.contains(port));
        let mut problem = "all of them belong to other deployments".to_owned();
        for port in known.into_iter().chain(free) {
            if let Err(error) = inner.local.bind(namespace, name, port) {
                problem = error.to_string();
                continue;
            }
            let mut tx = self.db().begin().await?;
            store::endpoints::set_port(&mut tx, namespace, name, port).await?;
            tx.commit().await?;
            return Ok(port);
        }
        let (first, last) = (inner.config.first_port, inner.config.last_port);
        let none = format!("none of the ports {first} to {last} can be used: {problem}");
        Err(no_port(&none).into())
    }

    /// Ends a deployment as deployed, and gives it its share of the requests.
    pub(crate) async fn succeed(
        &self,
        deployment: &Deployment,
        address: Address,
    ) -> Result<(), Stop> {
        let now = Timestamp::now().0;
        let timings = deployment.timings_in(State::Deployed, now);
        let sharing = self.inner.sharing.lock().await;
        let mut tx = self.db().begin().await?;
        let others = others(&mut tx, deployment).await?;
        let share = deployment.first_share(&others);
        if !store::changes::succeed(&mut tx, &deployment.id, share, &timings, now).await? {
            return Err(Stop::Left);
        }
        let mut shares = give_rest(&mut tx, &others, 100 - share, now).await?;
        shares.push((deployment.id.clone(), share));
        let (namespace, model_name) = (&deployment.order.namespace, &deployment.order.model_name);
        let url = match address {
            // Whoever learns that it is deployed finds it answering.
            Address::Port(port) => {
                let endpoint = Endpoint {
                    namespace: namespace.clone(),
                    model_name: model_name.clone(),
                    port,
                    shares,
                };
                self.inner
                    .local
                    .open(&endpoint)
                    .map_err(|error| no_port(&format!("port {port} cannot be used: {error}")))?;
                self.inner.config.url(port)
            }
            Address::Url(url) => {
                store::endpoints::set_url(&mut tx, namespace, model_name, &url).await?;
                url
            }
        };
        tx.commit().await?;
        drop(sharing);
        let part = match share {
            100 => String::new(),
            share => format!(" to {share} % of the requests"),
        };
        self.tell(deployment, format!("✓ deployed: answers at {url}{part}"))
            .await;
        metrics::counter!("mlops_deployments_total", "status" => "deployed").increment(1);
        self.rouse();
        Ok(())
    }

    async fn fail(&self, id: &str, failure: Failure) -> Result<(), Error> {
        let deployment = self.get(id).await?;
        let now = Timestamp::now().0;
        let timings = deployment.timings_in(State::Failed, now);
        let mut tx = self.db().begin().await?;
        let failed = store::changes::fail(&mut tx, id, &failure, &timings, now).await?;
        let (namespace, name) = (&deployment.order.namespace, &deployment.order.model_name);
        store::endpoints::delete_unused(&mut tx, namespace, name).await?;
        tx.commit().await?;
        if failed {
            let problem = &failure.problem;
            tracing::warn!(code = %problem.code, message = %problem.message, "a deployment failed");
            let mut lines = vec![format!("✗ {}", problem.message)];
            lines.extend(problem.help.iter().map(|help| format!("help: {help}")));
            self.say(id, PLATFORM, lines).await;
            metrics::counter!("mlops_deployments_total", "status" => "failed").increment(1);
        }
        self.changed();
        Ok(())
    }

    /// Leaves a deployment to the next start of the server.
    async fn give_back(&self, id: &str) -> Result<(), Error> {
        let mut tx = self.db().begin().await?;
        store::changes::undo_attempt(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Stops the training of a deployment that was removed.
    pub(crate) async fn stop_training(&self, id: &str) -> Result<(), Error> {
        let mut conn = self.db().acquire().await?;
        let job = store::deployments::find_training_job(&mut conn, id).await?;
        drop(conn);
        let Some(job) = job else { return Ok(()) };
        match self
            .inner
            .parts
            .jobs
            .cancel(&job, "the removal of its deployment")
            .await
        {
            Ok(_) | Err(jobs::Error::Finished { .. } | jobs::Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn tell(&self, deployment: &Deployment, line: String) {
        self.say(&deployment.id, PLATFORM, vec![line]).await;
    }
}

/// Whoever asked for a deployment, as one who trains for it: deploying needs the role editor.
fn asker(deployment: &Deployment) -> Identity {
    match deployment.created_by.strip_prefix("key:") {
        Some(name) => Identity::Key {
            id: deployment.id.clone(),
            name: name.to_owned(),
            role: Role::Editor,
        },
        None => Identity::Local,
    }
}

fn no_port(message: &str) -> Failure {
    Failure::new(
        Fault::Server,
        "no_port",
        "No free port",
        message,
        Some("free one, or set deploy.first_port and deploy.last_port".to_owned()),
    )
}

fn lost(attempts: i64) -> Failure {
    Failure::new(
        Fault::Server,
        "lost",
        "The server died",
        format!("the server died {attempts} times while it made this deployment"),
        Some("look into the server's log for what ended it, then deploy again".to_owned()),
    )
}

/// A training job's failure as that of the deployment.
fn of_training(job: &Job) -> Failure {
    let fault = match job.reason {
        Some(Reason::Infra | Reason::Lost) => Fault::Server,
        _ => Fault::Script,
    };
    match &job.error {
        Some(problem) => Failure {
            fault,
            problem: problem.clone(),
        },
        None => Failure::new(
            fault,
            "no_model",
            "No model",
            format!(
                "the training job {} registered no model version",
                job.job_id
            ),
            Some("call mlflow.<framework>.log_model(model, \"model\") in the script".to_owned()),
        ),
    }
}

/// What serving says of a model, as the failure of its deployment.
fn of_serving(error: &serving::Error) -> Failure {
    let fault = match error.code() {
        Code::BadGateway => Fault::Outside,
        code if code.status().is_client_error() => Fault::Script,
        _ => Fault::Server,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let help = error.help();
    Failure::new(
        fault,
        "model_not_servable",
        "Model cannot be served",
        message,
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_cannot_be_served_is_the_scripts_fault() {
        let error = serving::Error::NoEnvironment {
            name: "m".to_owned(),
            version: 1,
        };
        let failure = of_serving(&error);
        assert_eq!(failure.fault, Fault::Script);
        assert!(failure.problem.help.is_some());
        assert_eq!(lost(5).fault.code(), Code::Unavailable);
    }
}
