//! The target `local`: sandboxed model servers on this machine, as many as there should be,
//! behind one port for each endpoint.

mod front;
mod group;
mod launch;
mod pool;
mod replica;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry::{Registry, Selector};
use serving::{ModelFolder, Serving};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::deployment::{Deployment, Failure, Fault, Health};
use crate::environment::Opened;
use crate::error::Error;
use crate::log::PLATFORM;
use crate::told::Told;
use crate::{Deployments, Parts};
use front::{Front, Share};
use group::Group;
use launch::Launcher;

/// How long a deployment waits that could not be prepared after a start of the server.
const PREPARE_AGAIN: Duration = Duration::from_secs(10);

/// An endpoint that should be reached, and who answers for it.
pub(crate) struct Endpoint {
    pub(crate) namespace: String,
    pub(crate) model_name: String,
    pub(crate) port: u16,
    /// Deployments and their percents.
    pub(crate) shares: Vec<(String, u32)>,
}

/// What runs here.
pub(crate) struct Local {
    launcher: Launcher,
    listen_host: String,
    request_timeout: Duration,
    registry: Registry,
    serving: Serving,
    serve: crate::Serve,
    groups: Mutex<HashMap<String, Slot>>,
    /// By the namespaces and model names of their endpoints.
    fronts: Mutex<HashMap<(String, String), Front>>,
    /// Why deployments cannot run again.
    stopped: Told<String>,
    /// Why the ports of endpoints cannot be used.
    closed: Told<(String, String), Failure>,
}

/// The group of a deployment, or its making.
#[derive(Clone)]
enum Slot {
    Preparing,
    Running(Arc<Group>),
}

impl Local {
    pub(crate) fn new(parts: &Parts, config: &Config, home: &Path) -> Self {
        Self {
            launcher: Launcher {
                program: parts.program.clone(),
                sandbox: parts.sandbox.clone(),
                // Beside the rest, for a backup leaves out what ends with the processes.
                home: home.with_file_name("replicas"),
            },
            listen_host: config.listen_host.clone(),
            request_timeout: config.request_timeout(),
            registry: parts.registry.clone(),
            serving: parts.serving.clone(),
            serve: Arc::clone(&parts.serve),
            groups: Mutex::default(),
            fronts: Mutex::default(),
            stopped: Told::default(),
            closed: Told::default(),
        }
    }

    /// Starts the replicas of a deployment and waits until they are ready.
    ///
    /// # Errors
    /// Why one of them is not; then none is left.
    pub(crate) async fn start(
        &self,
        deployments: &Deployments,
        deployment: &Opened,
        model: ModelFolder,
    ) -> Result<(), Failure> {
        let group = Group::new(deployments, deployment, self.launcher.clone(), model);
        group.scale(deployment.replicas);
        group.ready().await?;
        let slot = Slot::Running(Arc::new(group));
        self.groups().insert(deployment.id.clone(), slot);
        Ok(())
    }

    /// Has a deployed deployment run, with as many replicas as it should have.
    pub(crate) fn want(&self, deployments: &Deployments, deployment: &Deployment) {
        let mut groups = self.groups();
        match groups.get(&deployment.id) {
            Some(Slot::Running(group)) => group.scale(deployment.replicas),
            Some(Slot::Preparing) => {}
            None => {
                groups.insert(deployment.id.clone(), Slot::Preparing);
                let (deployments, deployment) = (deployments.clone(), deployment.clone());
                tokio::spawn(async move {
                    deployments
                        .inner
                        .local
                        .bring_back(&deployments, &deployment)
                        .await;
                });
            }
        }
    }

    /// Starts a deployment again that ran before the server stopped.
    async fn bring_back(&self, deployments: &Deployments, deployment: &Deployment) {
        let (deployment, model) = match self.prepare(deployments, deployment).await {
            Ok(prepared) => prepared,
            Err(error) => {
                if self.stopped.is_new(&deployment.id, &error) {
                    tracing::error!(deployment_id = %deployment.id, %error, "a deployment cannot run again");
                    let lines = vec![format!("✗ cannot run again: {error}")];
                    deployments.say(&deployment.id, PLATFORM, lines).await;
                }
                tokio::time::sleep(PREPARE_AGAIN).await;
                self.groups().remove(&deployment.id);
                return;
            }
        };
        self.stopped.forget(&deployment.id);
        let group = Group::new(deployments, &deployment, self.launcher.clone(), model);
        group.scale(deployment.replicas);
        let mut groups = self.groups();
        // It may have been removed meanwhile.
        if let Some(slot) = groups.get_mut(&deployment.id) {
            *slot = Slot::Running(Arc::new(group));
        }
        drop(groups);
        deployments.rouse();
    }

    async fn prepare(
        &self,
        deployments: &Deployments,
        deployment: &Deployment,
    ) -> Result<(Opened, ModelFolder), String> {
        let opened = deployments.opened(deployment.clone());
        let deployment = opened.map_err(|e| e.to_string())?;
        let number = deployment.model_version.unwrap_or_default();
        let name = &deployment.order.model_name;
        let found = self.registry.resolve(name, &Selector::Number(number)).await;
        let version = found.map_err(|e| e.to_string())?;
        let prepared = self.serving.prepare_again(&version).await;
        let model = prepared.map_err(|e| e.to_string())?;
        Ok((deployment, model))
    }

    /// Removes what replicas left that died with their server.
    pub(crate) async fn remove_left(&self) {
        self.launcher.remove_left().await;
    }

    /// Binds the port of an endpoint, unless it is bound for it already.
    ///
    /// # Errors
    /// When the port is taken or the address is not this machine's.
    pub(crate) fn bind(&self, namespace: &str, model_name: &str, port: u16) -> io::Result<()> {
        let mut fronts = self.fronts();
        let endpoint = (namespace.to_owned(), model_name.to_owned());
        if fronts
            .get(&endpoint)
            .is_some_and(|front| front.port() == port)
        {
            return Ok(());
        }
        let host = self.listen_host.trim_matches(['[', ']']);
        let ip: IpAddr = host.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("deploy.listen_host {host:?} is no IP address"),
            )
        })?;
        let listener = TcpListener::bind((ip, port))?;
        let front = Front::open(
            model_name,
            port,
            listener,
            self.request_timeout,
            &*self.serve,
        );
        let before = fronts.insert(endpoint, front.map_err(io::Error::other)?);
        if let Some(before) = before {
            before.close();
        }
        Ok(())
    }

    /// Has a live endpoint be reached, and tells once when its port cannot be used.
    pub(crate) fn keep_open(&self, endpoint: &Endpoint) {
        let name = (endpoint.namespace.clone(), endpoint.model_name.clone());
        let Err(error) = self.open(endpoint) else {
            return self.closed.forget(&name);
        };
        let port = endpoint.port;
        if self.closed.is_new(&name, &closed(port, &error)) {
            let (namespace, model) = name;
            tracing::error!(%namespace, %model, port, %error, "the port of a deployment cannot be used");
        }
    }

    /// Has an endpoint reached at its port by whoever is ready to answer for it.
    ///
    /// # Errors
    /// When its port cannot be used.
    pub(crate) fn open(&self, endpoint: &Endpoint) -> io::Result<()> {
        let Endpoint {
            namespace,
            model_name,
            port,
            shares,
        } = endpoint;
        self.bind(namespace, model_name, *port)?;
        let groups = self.groups();
        let shares = shares.iter().filter_map(|(id, percent)| {
            let Some(Slot::Running(group)) = groups.get(id) else {
                return None;
            };
            Some(Share {
                deployment_id: id.clone(),
                percent: *percent,
                group: Arc::clone(group),
            })
        });
        let shares = shares.collect();
        drop(groups);
        if let Some(front) = self.fronts().get(&(namespace.clone(), model_name.clone())) {
            front.share(shares);
        }
        Ok(())
    }

    /// Stops what none of these deployments needs: ports at once, replicas when they have answered.
    pub(crate) fn keep_only(&self, deployments: &[&Deployment], tasks: &TaskTracker) {
        let endpoints: HashSet<_> = deployments.iter().map(|d| d.endpoint()).collect();
        self.closed.retain(|endpoint| endpoints.contains(endpoint));
        self.stopped
            .retain(|id| deployments.iter().any(|deployment| deployment.id == *id));
        self.fronts().retain(|endpoint, front| {
            let kept = endpoints.contains(endpoint);
            if !kept {
                front.close();
            }
            kept
        });
        self.groups().retain(|id, slot| {
            let kept = deployments.iter().any(|deployment| deployment.id == *id);
            if let (false, Slot::Running(group)) = (kept, slot) {
                let (group, limit) = (Arc::clone(group), self.request_timeout);
                tasks.spawn(async move { group.drain(limit).await });
            }
            kept
        });
    }

    /// How a deployment's replicas are; nothing is known of those on another machine.
    pub(crate) fn health(&self, deployment: &Deployment) -> Option<Health> {
        let (ready, down) = match self.groups().get(&deployment.id)? {
            Slot::Preparing => (0, self.stopped.find(&deployment.id).map(stopped)),
            Slot::Running(group) => (group.ready_count(), group.failure()),
        };
        let closed = self.closed.find(&deployment.endpoint());
        Some(Health {
            ready,
            failure: down.or(closed),
        })
    }

    /// Stops everything, for a server that stops.
    pub(crate) fn stop(&self) {
        for (_, front) in self.fronts().drain() {
            front.close();
        }
        self.groups().clear();
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fronts(&self) -> MutexGuard<'_, HashMap<(String, String), Front>> {
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a deployment of before a start of the server does not run.
fn stopped(error: String) -> Failure {
    let help = "mend that: it is tried again every few seconds; or deploy the model again";
    let title = "Cannot run again";
    Failure::new(
        Fault::Server,
        "cannot_run_again",
        title,
        error,
        Some(help.to_owned()),
    )
}

/// Why nobody reaches a deployment whose replicas may be well.
fn closed(port: u16, error: &io::Error) -> Failure {
    let (code, help) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "port_taken",
            "end the program that has the port: it is tried again every second; or remove the deployment and deploy again, which finds another port",
        ),
        _ => (
            "port_unusable",
            "mend what the message says: it is tried again every second; deploy.listen_host must be an address of this machine, and the server must be allowed enough open files (ulimit -n, LimitNOFILE)",
        ),
    };
    let title = "Port cannot be used";
    let message = format!("nobody reaches the model: port {port} cannot be used: {error}");
    Failure::new(Fault::Server, code, title, message, Some(help.to_owned()))
}

/// The name of this machine among those that share a database, made when there is none yet.
pub(crate) fn machine(home: &Path) -> Result<String, Error> {
    let path = home.join("machine");
    let failed = |source| Error::Io {
        attempt: format!("read or write {}", path.display()),
        source,
    };
    match std::fs::read_to_string(&path) {
        // What is deployed here belongs to the name that was lost.
        Ok(name) if name.trim().is_empty() => {
            let empty = "it is empty; write this machine's name into it: the column machine of the table deployments has it";
            Err(failed(io::Error::new(io::ErrorKind::InvalidData, empty)))
        }
        Ok(name) => Ok(name.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = ulid::Ulid::new().to_string().to_lowercase();
            write_synced(&path, &name).map_err(failed)?;
            Ok(name)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file whole, so that it outlives a loss of power.
fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    part.write_all(text.as_bytes())?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_name_and_is_not_given_another_one() {
        let home = tempfile::tempdir().unwrap();
        let name = machine(home.path()).unwrap();
        assert_eq!(machine(home.path()).unwrap(), name);
        std::fs::write(home.path().join("machine"), "").unwrap();
        assert!(machine(home.path()).is_err());
    }

    #[test]
    fn only_a_port_that_another_program_has_is_told_as_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let foreign = (IpAddr::from([192, 0, 2, 1]), address.port());
        let cases = [
            (TcpListener::bind(address), "port_taken", "end the program"),
            (
                TcpListener::bind(foreign),
                "port_unusable",
                "deploy.listen_host",
            ),
        ];
        for (bound, code, help) in cases {
            let problem = closed(address.port(), &bound.unwrap_err()).problem;
            assert_eq!(problem.code, code, "{}", problem.message);
            assert!(problem.help.unwrap().contains(help), "{code}");
        }
    }
}
