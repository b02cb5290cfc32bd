//! Serving the routes on a job's own listener, where every caller is that job.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::{Authenticate, Door, Identity};

use super::{Listener, serve};

/// Serves jobs; they are built before the routes that it serves. Cheap to clone.
#[derive(Clone)]
pub struct JobServer {
    routes: Arc<OnceLock<(Router, Authenticate)>>,
    tasks: TaskTracker,
}

impl JobServer {
    /// A server that has no routes yet.
    pub fn new(tasks: TaskTracker) -> Self {
        Self {
            routes: Arc::default(),
            tasks,
        }
    }

    /// Gives it the routes, once.
    pub fn set_routes(&self, router: Router, authenticate: Authenticate) {
        if self.routes.set((router, authenticate)).is_err() {
            tracing::error!("the routes of jobs were set twice; the first stay");
        }
    }

    /// Serves a job's listener until `stop`.
    pub fn serve(&self, listener: TcpListener, job_id: String, stop: CancellationToken) {
        let Some((router, authenticate)) = self.routes.get() else {
            tracing::error!(job_id, "a job came before the routes");
            return;
        };
        let door = Door::new(authenticate.clone()).open_to(Identity::Job {
            job_id: job_id.clone(),
        });
        let router = door.guard(router.clone());
        match Listener::adopt(listener) {
            Ok(listener) => {
                let tasks = self.tasks.clone();
                self.tasks.spawn(serve(listener, router, tasks, stop));
            }
            Err(error) => tracing::error!(job_id, %error, "a job's listener cannot be served"),
        }
    }
}
