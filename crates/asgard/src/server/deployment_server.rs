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
    /// A server that knows nobody yet. It answers also to `url_host`, which deployments have in their
    /// URLs.
    pub fn new(
        tasks: TaskTracker,
        mut config: Config,
        url_host: Option<String>,
        scripts_inside: bool,
        keyed: bool,
    ) -> Self {
        config.allowed_hosts.extend(url_host);
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use web::{Permission, Style};

    use super::*;

    #[tokio::test]
    async fn a_deployment_answers_to_the_host_in_its_url() {
        let host = Some("models.test".to_owned());
        let server =
            DeploymentServer::new(TaskTracker::new(), Config::default(), host, false, false);
        server.set_authenticate(Arc::new(|_| Box::pin(async { Ok(None) })));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::new(Style::Asgard).get("/", Permission::Public, || async { "here" });
        let stop = CancellationToken::new();
        server.serve(listener, routes, stop.clone()).unwrap();
        for (host, status) in [("models.test:8100", "200"), ("other.test:8100", "403")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        }
        stop.cancel();
    }
}
