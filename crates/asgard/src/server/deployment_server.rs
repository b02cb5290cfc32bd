//! Serving the address of a deployment behind the same door as the server's own.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::{Authenticate, Door, Routes};

use super::{Address, Config, Exposure, Listener, serve};

/// Serves deployments; they are built before it is known who calls. Cheap to clone.
#[derive(Clone)]
pub struct DeploymentServer {
    authenticate: Arc<OnceLock<Authenticate>>,
    tasks: TaskTracker,
    config: Config,
    /// Whether code of users shares the host's network.
    scripts_inside: bool,
    /// Whether an API key exists.
    keyed: bool,
}

impl DeploymentServer {
    /// A server that knows nobody yet.
    pub fn new(tasks: TaskTracker, config: Config, scripts_inside: bool, keyed: bool) -> Self {
        Self {
            authenticate: Arc::default(),
            tasks,
            config,
            scripts_inside,
            keyed,
        }
    }

    /// Tells it who calls, once.
    pub fn set_authenticate(&self, authenticate: Authenticate) {
        if self.authenticate.set(authenticate).is_err() {
            tracing::error!("who calls was told twice; the first stays");
        }
    }

    /// Serves routes on a bound address until `stop`.
    ///
    /// # Errors
    /// When nobody could be told from anybody there.
    pub fn serve(
        &self,
        listener: TcpListener,
        routes: Routes,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let authenticate = self.authenticate.get().ok_or("the server is starting")?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let exposure = Exposure::of(
            Address(address),
            &self.config,
            self.scripts_inside,
            self.keyed,
        )
        .map_err(|refused| format!("{refused}; {}", refused.help()))?;
        let door = exposure.open(Door::new(authenticate.clone()), &self.config);
        let router = door.guard(routes.into_router());
        let listener = Listener::adopt(listener).map_err(|e| e.to_string())?;
        let tasks = self.tasks.clone();
        self.tasks.spawn(serve(listener, router, tasks, stop));
        Ok(())
    }
}
