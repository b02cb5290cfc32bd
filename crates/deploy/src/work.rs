//! The loop that makes what runs on this machine what the rows say.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::create::{CLUSTER, LOOK_AGAIN};
use crate::deployment::Deployment;
use crate::error::Error;
use crate::local::Endpoint;
use crate::store::endpoints::Ports;
use crate::{Deployments, store};

impl Deployments {
    /// Leads deployments to their ends and keeps those that are deployed running, until
    /// `shutdown`; what is on its way then goes on when a server starts again.
    pub async fn work(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        self.inner.local.remove_left().await;
        while !shutdown.is_cancelled() {
            if let Err(error) = self.look(&tasks, &shutdown).await {
                tracing::error!(%error, "looking at the deployments failed");
            }
            tokio::select! {
                () = self.inner.arrived.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.cancelled() => {}
            }
        }
        tasks.close();
        tasks.wait().await;
        self.inner.local.stop();
    }

    async fn look(&self, tasks: &TaskTracker, shutdown: &CancellationToken) -> Result<(), Error> {
        let machine = &self.inner.machine;
        let sharing = self.inner.sharing.lock().await;
        let mut conn = self.db().acquire().await?;
        let open = store::deployments::list_open(&mut conn, machine).await?;
        let live = store::deployments::list_live(&mut conn, machine).await?;
        let in_cluster = store::deployments::list_open(&mut conn, CLUSTER).await?;
        let ports = store::endpoints::list_ports(&mut conn, machine).await?;
        drop(conn);
        self.drop_removed(open.iter().chain(&in_cluster));
        for deployment in &open {
            self.take_up(deployment, tasks, shutdown);
        }
        for deployment in &live {
            self.inner.local.want(self, deployment);
        }
        for endpoint in endpoints(&live, &ports) {
            self.inner.local.keep_open(&endpoint);
        }
        let wanted: Vec<&Deployment> = open.iter().chain(&live).collect();
        self.inner.local.keep_only(&wanted, tasks);
        drop(sharing);
        self.look_at_cluster(&in_cluster, tasks, shutdown).await
    }

    /// Stops leading deployments that were removed, perhaps by another server.
    fn drop_removed<'d>(&self, open: impl Iterator<Item = &'d Deployment> + Clone) {
        for (id, stop) in self.running().iter() {
            if !open.clone().any(|deployment| deployment.id == *id) {
                stop.cancel();
            }
        }
    }

    /// Begins to lead a deployment to its end, unless that is going on.
    pub(crate) fn take_up(
        &self,
        deployment: &Deployment,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let stop = shutdown.child_token();
        {
            let mut running = self.running();
            if running.contains_key(&deployment.id) {
                return;
            }
            running.insert(deployment.id.clone(), stop.clone());
        }
        let span = tracing::info_span!("deployment", deployment_id = %deployment.id);
        let (deployments, deployment) = (self.clone(), deployment.clone());
        let shutdown = shutdown.clone();
        let lead = async move {
            let id = deployment.id.clone();
            // A panic is logged, and the deployment taken up again like any other.
            let led = AssertUnwindSafe(deployments.lead(deployment, stop, &shutdown));
            if led.catch_unwind().await.is_err() {
                tracing::error!("leading a deployment panicked");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // A failure to write is tried again, not at once.
            if !shutdown.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            deployments.running().remove(&id);
            deployments.rouse();
        };
        tasks.spawn(lead.instrument(span));
    }
}

/// The endpoints of live deployments that have a port.
fn endpoints(live: &[Deployment], ports: &Ports) -> Vec<Endpoint> {
    let mut found: HashMap<(String, String), Endpoint> = HashMap::new();
    for deployment in live {
        let name = deployment.endpoint();
        let Some(port) = ports.get(&name) else {
            continue;
        };
        let endpoint = found
            .entry(name)
            .or_insert_with_key(|(namespace, model_name)| Endpoint {
                namespace: namespace.clone(),
                model_name: model_name.clone(),
                port: *port,
                shares: Vec::new(),
            });
        let share = (deployment.id.clone(), deployment.traffic);
        endpoint.shares.push(share);
    }
    found.into_values().collect()
}
