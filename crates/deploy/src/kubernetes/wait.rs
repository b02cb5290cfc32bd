//! Rolling a deployment out: its objects are applied, then watched until its pods are ready or it
//! is clear that they will not be.

use std::time::{Duration, Instant};

use super::Kubernetes;
use super::cause::{Cause, Stays, cause};
use super::object::Kind;
use super::objects::workload_name;
use super::rollout::{Rollout, rollout};
use crate::Deployments;
use crate::deployment::{Failure, Fault};
use crate::environment::Opened;
use crate::log::PLATFORM;
use crate::log::in_words;

/// How often the cluster is asked how a rollout stands.
const LOOK: Duration = Duration::from_millis(500);

/// What was seen of a rollout so far.
struct Watch<'d> {
    deployments: &'d Deployments,
    id: &'d str,
    /// What was told last, which is not told again.
    told: String,
    /// The fault that stands, and since when.
    fault: Option<(&'static str, Instant)>,
}

impl Kubernetes {
    /// Makes the objects of a deployment and waits until all its pods are ready. It gets no
    /// requests yet.
    ///
    /// # Errors
    /// What the cluster refuses, or why its pods are not ready.
    pub(crate) async fn roll_out(
        &self,
        deployments: &Deployments,
        deployment: &Opened,
        image: &str,
    ) -> Result<(), Failure> {
        let objects = self
            .inner
            .shape
            .workload(deployment, image, deployment.replicas);
        self.let_pull(deployment, image).await?;
        if let Some(left) = self.apply(&objects).await? {
            return Err(left);
        }
        let name = workload_name(&deployment.order.model_name, &deployment.id);
        let mut watch = Watch {
            deployments,
            id: &deployment.id,
            told: String::new(),
            fault: None,
        };
        let namespace = &deployment.order.namespace;
        watch
            .tell(format!(
                "applied the Deployment {namespace}/{name} with {image}"
            ))
            .await;
        // The cluster's own limit comes first; this one is for a cluster that does nothing.
        let patience = Duration::from_secs(self.inner.start_timeout_s) + Duration::from_secs(15);
        let late = Instant::now() + patience;
        while !self.look(deployment, &name, late, &mut watch).await? {
            tokio::time::sleep(LOOK).await;
        }
        watch.tell("✓ all pods are ready".to_owned()).await;
        Ok(())
    }

    /// Looks once; true when the rollout is done.
    async fn look(
        &self,
        deployment: &Opened,
        name: &str,
        late: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<bool, Failure> {
        let api = self.api().await?;
        let namespace = &deployment.order.namespace;
        let found = api.deployment(namespace, name).await?;
        let found = found.ok_or_else(|| gone(namespace, name))?;
        let stands = rollout(&found);
        if stands == Rollout::Done {
            return Ok(true);
        }
        let pods = api.pods(namespace, &deployment.id).await?;
        let cause = cause(&found, &pods);
        let over = stands == Rollout::Late || Instant::now() >= late;
        if let Some(cause) = cause {
            if over || watch.is_final(&cause, self.inner.config.fault_patience()) {
                return Err(self.of_cause(deployment, cause).await);
            }
            watch.tell(format!("waiting: {}", cause.message)).await;
            return Ok(false);
        }
        watch.fault = None;
        if over {
            let said = api.last_event(Kind::Deployment, namespace, name).await;
            return Err(not_ready(
                namespace,
                &deployment.id,
                self.inner.start_timeout_s,
                said,
            ));
        }
        if let Rollout::Waits(what) = stands {
            watch.tell(format!("waiting: {what}")).await;
        }
        Ok(false)
    }

    async fn of_cause(&self, deployment: &Opened, cause: Cause) -> Failure {
        let fault = match cause.code {
            "oom" | "crash_loop" | "container_config" => Fault::Script,
            _ => Fault::Outside,
        };
        let mut failure = Failure::new(
            fault,
            cause.code,
            "The pods do not start",
            cause.message,
            Some(cause.help),
        );
        if let (Some((pod, restarted)), Ok(api)) = (cause.log, self.api().await) {
            let order = &deployment.order;
            let log = api.log(&order.namespace, &pod, restarted).await;
            let secrets = jobs::find_secrets(deployment.variables());
            let in_words = |log: String| {
                let lines = log.lines().map(|line| in_words(line.to_owned()));
                lines.collect::<Vec<_>>().join("\n")
            };
            let log = log.map(in_words);
            failure.problem.details = log.map(|log| jobs::cover_secrets(&log, &secrets));
        }
        failure
    }
}

impl Watch<'_> {
    async fn tell(&mut self, line: String) {
        if self.told != line {
            self.deployments
                .say(self.id, PLATFORM, vec![line.clone()])
                .await;
            self.told = line;
        }
    }

    /// Whether a fault ends the rollout now.
    fn is_final(&mut self, cause: &Cause, patience: Duration) -> bool {
        let since = match self.fault {
            Some((code, since)) if code == cause.code => since,
            _ => Instant::now(),
        };
        self.fault = Some((cause.code, since));
        match cause.stays {
            Stays::Certainly => true,
            Stays::Probably => since.elapsed() >= patience,
            Stays::Perhaps => false,
        }
    }
}

fn gone(namespace: &str, name: &str) -> Failure {
    Failure::new(
        Fault::Outside,
        "removed_in_cluster",
        "Removed in the cluster",
        format!("somebody removed the Deployment {namespace}/{name} while it rolled out"),
        Some("deploy again; remove deployments by asgard".to_owned()),
    )
}

fn not_ready(namespace: &str, id: &str, seconds: u64, said: Option<String>) -> Failure {
    let said = said.map(|said| format!("; the cluster said: {said}"));
    Failure::new(
        Fault::Outside,
        "not_ready",
        "The pods do not get ready",
        format!(
            "not all pods were ready within {seconds} s{}",
            said.unwrap_or_default()
        ),
        Some(format!(
            "kubectl -n {namespace} describe pod -l asgard/deployment={id} tells what they wait for; deploy.start_timeout_s gives them longer"
        )),
    )
}
