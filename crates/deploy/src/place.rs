//! Deployments in a cluster: leading one there, and looking after all of them. Any server that
//! shares the database may do either; a lease tells which one leads.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::{FieldError, Timestamp};

use crate::create::CLUSTER;
use crate::deployment::{Deployment, Failure, Fault, Plan, State, Target};
use crate::environment::Opened;
use crate::error::Error;
use crate::image::{self, ImageOrder, ImageStep};
use crate::kubernetes::Kubernetes;
use crate::log::PLATFORM;
use crate::manage::{live, others, rest_shared};
use crate::order::{Request, Source};
use crate::pipeline::{Address, Stop};
use crate::{Deployments, store};
use registry::ModelVersion;

/// How long a server that does not say that it lives is taken to lead.
const LEASE_MS: i64 = 30_000;

/// What keeps the cluster from being rid of deployments that are gone: by deployment, the problem
/// and how often it was met.
#[derive(Default)]
pub(crate) struct Trouble(HashMap<String, (String, u32)>);

impl Trouble {
    /// The longest pause before the cluster is asked again.
    const LONGEST_S: u64 = 30;

    /// Tells a problem of a deployment once, however often it is met; how long to wait after it.
    fn meets(&mut self, id: &str, problem: String) -> Duration {
        let (known, times) = self.0.entry(id.to_owned()).or_default();
        if *known == problem {
            tracing::debug!(deployment_id = id, problem, "still in the cluster");
        } else {
            tracing::error!(
                deployment_id = id,
                problem,
                "a removed deployment is still in the cluster"
            );
            (*known, *times) = (problem, 0);
        }
        *times += 1;
        Duration::from_secs((1 << (*times).min(5)).min(Self::LONGEST_S))
    }

    /// Forgets the deployments that are no longer among these.
    fn retain(&mut self, there: &[Deployment]) {
        self.0.retain(|id, _| there.iter().any(|one| one.id == *id));
    }
}

impl Deployments {
    /// The phases of a deployment in the cluster, after its model is known.
    pub(crate) async fn lead_in_cluster(
        &self,
        mut deployment: Opened,
        version: ModelVersion,
    ) -> Result<(), Stop> {
        let kubernetes = self.cluster().map_err(|failure| *failure)?;
        // What could not be joined to its endpoint in the end is not begun.
        self.members_with(&deployment).await?;
        let image = self.image(&mut deployment, version).await?;
        self.enter(&mut deployment, State::Deploying).await?;
        let mut tx = self.db().begin().await?;
        store::changes::set_placed(&mut tx, &deployment.id, true).await?;
        tx.commit().await?;
        kubernetes.roll_out(self, &deployment, &image).await?;
        // Whatever comes of it, the endpoint is then made as the rows say.
        let held = kubernetes.hold(&deployment).await;
        let members = self.members_with(&deployment).await?;
        let url = kubernetes.reach(self, &deployment.id, &members).await?;
        let ended = self.succeed(&deployment, Address::Url(url)).await;
        drop(held);
        ended
    }

    /// What a request would make of the cluster.
    ///
    /// # Errors
    /// When it is for another target or trains first, or the cluster cannot be read.
    pub(crate) async fn plan(&self, request: &Request) -> Result<Plan, Error> {
        let Source::Registered(wanted) = &request.source else {
            return Err(Error::Fields(vec![FieldError::body(
                ["script_content"],
                "a script is trained before its deployment is known; dry_run needs a registered model",
            )]));
        };
        if request.target != Target::Kubernetes {
            return Err(Error::Fields(vec![FieldError::body(
                ["target"],
                "dry_run shows the objects of a cluster; the target is local",
            )]));
        }
        let version = self.version(&request.model_name, wanted.as_deref()).await?;
        let image = request
            .image
            .clone()
            .unwrap_or_else(|| image::UNMADE.to_owned());
        let deployment = Deployment {
            image: Some(image),
            ..Deployment::asked_for(request.order(Some(version)), Timestamp::now().0)
        };
        let members = self.members_with(&self.opened(deployment)?).await?;
        let kubernetes = self.cluster().map_err(Error::Cluster)?;
        kubernetes.plan(&members).await.map_err(of_cluster)
    }

    /// How the cluster differs from what a live deployment's endpoint should be.
    ///
    /// # Errors
    /// When it is not live or not in a cluster, or the cluster cannot be read.
    pub(crate) async fn drift(&self, id: &str) -> Result<Plan, Error> {
        let mut conn = self.db().acquire().await?;
        let deployment = live(&mut conn, id).await?;
        if deployment.order.target != Target::Kubernetes {
            return Err(Error::NotInCluster(id.to_owned()));
        }
        let order = &deployment.order;
        let members =
            store::deployments::list_live_of(&mut conn, &order.namespace, &order.model_name)
                .await?;
        drop(conn);
        let members = self.all_opened(members)?;
        let kubernetes = self.cluster().map_err(Error::Cluster)?;
        kubernetes.plan(&members).await.map_err(of_cluster)
    }

    fn all_opened(&self, members: Vec<Deployment>) -> Result<Vec<Opened>, Error> {
        let opened = members.into_iter().map(|member| self.opened(member));
        opened.collect()
    }

    /// Refuses to change an endpoint that could not be made as it would be then: in a cluster all its
    /// members are applied at once, here each deployment runs by itself.
    pub(crate) fn check_opened<'d>(
        &self,
        changed: &str,
        members: impl IntoIterator<Item = &'d Deployment>,
    ) -> Result<(), Error> {
        for member in members {
            if member.order.target == Target::Kubernetes || member.id == changed {
                self.opened(member.clone())?;
            }
        }
        Ok(())
    }

    /// Those of the live deployments whose endpoints can be made as they should be; the others stay
    /// as they are.
    async fn opened_endpoints(&self, live: Vec<Deployment>) -> Vec<Opened> {
        let mut closed = HashSet::new();
        let mut problems = Vec::new();
        let mut opened = Vec::new();
        for deployment in live {
            let (id, endpoint) = (deployment.id.clone(), deployment.endpoint());
            match self.opened(deployment) {
                Ok(deployment) => opened.push(deployment),
                Err(error) => {
                    problems.push((id, error));
                    closed.insert(endpoint);
                }
            }
        }
        self.tell_unopened(problems).await;
        opened.retain(|deployment| !closed.contains(&deployment.endpoint()));
        opened
    }

    /// Tells of each deployment once what keeps it as it is.
    async fn tell_unopened(&self, problems: Vec<(String, Error)>) {
        let unopened = &self.inner.unopened;
        unopened.retain(|known| problems.iter().any(|(id, _)| id == known));
        for (id, error) in problems {
            if !unopened.is_new(&id, &error.to_string()) {
                continue;
            }
            tracing::error!(deployment_id = %id, %error, "an endpoint in the cluster is left as it is");
            let line = format!("✗ the endpoint is left as it is in the cluster: {error}");
            self.say(&id, PLATFORM, vec![line]).await;
        }
    }

    pub(crate) fn cluster(&self) -> Result<&Kubernetes, Box<Failure>> {
        self.inner.kubernetes.as_ref().ok_or_else(|| {
            let help = "set deploy.kubernetes.kubeconfig or in_cluster, then deploy again";
            Box::new(Failure::new(
                Fault::Server,
                "no_cluster",
                "No cluster",
                "this server has no cluster any more",
                Some(help.to_owned()),
            ))
        })
    }

    /// The image of a deployment: the one that it had before a restart, the one that it names, or
    /// one that is made.
    async fn image(
        &self,
        deployment: &mut Deployment,
        version: ModelVersion,
    ) -> Result<String, Stop> {
        if let Some(image) = &deployment.image {
            return Ok(image.clone());
        }
        let image = match &deployment.order.image {
            Some(image) => image.clone(),
            None => self.make_image(deployment, version).await?,
        };
        let mut tx = self.db().begin().await?;
        store::changes::set_image(&mut tx, &deployment.id, &image).await?;
        tx.commit().await?;
        self.tell(deployment, format!("✓ image {image}")).await;
        deployment.image = Some(image.clone());
        Ok(image)
    }

    async fn make_image(
        &self,
        deployment: &mut Deployment,
        version: ModelVersion,
    ) -> Result<String, Stop> {
        let make = self.inner.parts.image.as_ref().ok_or_else(image::none)?;
        let (steps, mut told) = mpsc::unbounded_channel();
        let mut made = make(ImageOrder { version, steps });
        let image = loop {
            let step = tokio::select! {
                biased;
                Some(step) = told.recv() => step,
                image = &mut made => break image,
            };
            self.tell_step(deployment, step).await?;
        };
        while let Ok(step) = told.try_recv() {
            self.tell_step(deployment, step).await?;
        }
        Ok(image?)
    }

    async fn tell_step(&self, deployment: &mut Deployment, step: ImageStep) -> Result<(), Stop> {
        match step {
            ImageStep::Line(line) => self.tell(deployment, line).await,
            ImageStep::Pushing => self.enter(deployment, State::Pushing).await?,
        }
        Ok(())
    }

    /// Who shares a deployment's endpoint when it is live, each with its share.
    async fn members_with(&self, deployment: &Opened) -> Result<Vec<Opened>, Error> {
        let mut conn = self.db().acquire().await?;
        let mut members = others(&mut conn, deployment).await?;
        drop(conn);
        let share = deployment.first_share(&members);
        // Those that are replaced may be such that nobody can open any more.
        if share == 100 {
            members.clear();
        }
        let shares = rest_shared(&members, 100 - share);
        let mut members = self.all_opened(members)?;
        for (member, (_, share)) in members.iter_mut().zip(shares) {
            member.traffic = share;
        }
        let mut joining = deployment.clone();
        joining.traffic = share;
        members.push(joining);
        Ok(members)
    }

    /// Leads what is on its way to the cluster, keeps what is live there, removes the rest.
    pub(crate) async fn look_at_cluster(
        &self,
        open: &[Deployment],
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let Some(kubernetes) = &self.inner.kubernetes else {
            return Ok(());
        };
        for deployment in open {
            if self.lease(deployment).await? {
                self.take_up(deployment, tasks, shutdown);
            }
        }
        let now = Timestamp::now().0;
        let machine = &self.inner.machine;
        let mut conn = self.db().acquire().await?;
        let live = store::deployments::list_live(&mut conn, CLUSTER).await?;
        let vain = store::deployments::list_placed_in_vain(&mut conn, machine, now).await?;
        drop(conn);
        let live = self.opened_endpoints(live).await;
        kubernetes.keep(self, &live, tasks);
        self.clear_up(vain, tasks, shutdown);
        Ok(())
    }

    async fn lease(&self, deployment: &Deployment) -> Result<bool, Error> {
        let now = Timestamp::now().0;
        let machine = &self.inner.machine;
        let mut tx = self.db().begin().await?;
        let until = now + LEASE_MS;
        let ours = store::changes::lease(&mut tx, &deployment.id, machine, now, until).await?;
        tx.commit().await?;
        Ok(ours)
    }

    /// Removes what deployments left in the cluster that are gone, one after the other.
    fn clear_up(&self, vain: Vec<Deployment>, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let vain: Vec<Deployment> = {
            let running = self.running();
            let idle = |deployment: &Deployment| !running.contains_key(&deployment.id);
            vain.into_iter().filter(idle).collect()
        };
        let clearing = std::sync::Arc::clone(&self.inner.clearing);
        let Ok(mut clearing) = clearing.try_lock_owned() else {
            return;
        };
        clearing.retain(&vain);
        if vain.is_empty() {
            return;
        }
        let (deployments, shutdown) = (self.clone(), shutdown.clone());
        tasks.spawn(async move {
            for deployment in vain {
                match deployments.clear(&deployment).await {
                    Ok(()) => _ = clearing.0.remove(&deployment.id),
                    Err(problem) => {
                        let pause = clearing.meets(&deployment.id, problem);
                        let paused = shutdown.run_until_cancelled(tokio::time::sleep(pause));
                        if paused.await.is_none() {
                            return;
                        }
                    }
                }
            }
        });
    }

    async fn clear(&self, deployment: &Deployment) -> Result<(), String> {
        let kubernetes = self.cluster().map_err(|failure| failure.problem.message)?;
        // Nobody gives the endpoint to a new deployment while the old one's objects go.
        let _held = kubernetes.hold(deployment).await;
        let mut conn = self.db().acquire().await.map_err(|e| e.to_string())?;
        let beside = store::deployments::has_placed_beside(&mut conn, deployment).await;
        drop(conn);
        let alone = !beside.map_err(|e| e.to_string())?;
        let cleared = kubernetes.clear(deployment, alone).await;
        cleared.map_err(|failure| failure.problem.message)?;
        self.clear_pull_secret(kubernetes, deployment).await?;
        let mut tx = self.db().begin().await.map_err(|e| e.to_string())?;
        let stored = store::changes::set_placed(&mut tx, &deployment.id, false).await;
        stored.map_err(|e| e.to_string())?;
        tx.commit().await.map_err(|e| e.to_string())
    }

    /// Removes what nodes pull images with, when the namespace has no other deployment.
    async fn clear_pull_secret(
        &self,
        kubernetes: &Kubernetes,
        deployment: &Deployment,
    ) -> Result<(), String> {
        let namespace = &deployment.order.namespace;
        // Seen before the rows are: a deployment that comes later changes it, and it stays then.
        let secret = kubernetes.pull_secret(namespace).await;
        let Some(secret) = secret.map_err(|failure| failure.problem.message)? else {
            return Ok(());
        };
        let mut conn = self.db().acquire().await.map_err(|e| e.to_string())?;
        let others = store::deployments::has_placed_in_namespace(&mut conn, deployment).await;
        drop(conn);
        if others.map_err(|e| e.to_string())? {
            return Ok(());
        }
        let cleared = kubernetes.clear_pull_secret(secret).await;
        cleared.map_err(|failure| failure.problem.message)
    }
}

fn of_cluster(failure: Failure) -> Error {
    Error::Cluster(Box::new(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_stays_away_is_asked_ever_more_rarely() {
        let mut trouble = Trouble::default();
        let mut meet = |problem: &str| trouble.meets("d", problem.to_owned()).as_secs();
        assert_eq!([meet("a"), meet("a"), meet("a")], [2, 4, 8]);
        assert_eq!([meet("b"), meet("b")], [2, 4]);
        assert_eq!((0..9).map(|_| meet("b")).max(), Some(30));
    }

    #[test]
    fn each_deployment_has_its_own_trouble() {
        let mut trouble = Trouble::default();
        let mut meet = |id, problem: &str| trouble.meets(id, problem.to_owned()).as_secs();
        assert_eq!([meet("d", "a"), meet("e", "b")], [2, 2]);
        assert_eq!([meet("d", "a"), meet("e", "b")], [4, 4]);
        trouble.retain(&[]);
        assert!(trouble.0.is_empty());
    }
}
