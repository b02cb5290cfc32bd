//! A whole platform without a listener: requests go straight through its routes.

use std::time::Instant;

use asgard::mlflow_ui;
use asgard::platform::{Ground, MIGRATIONS, Platform};
use asgard::server::{DeploymentServer, JobServer, Metrics};
use asgard::settings::Settings;
use asgard::status::About;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use sandbox::Sandbox;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;
use web::testing::{Answer, send};
use web::{Door, Identity, RouteEntry};

pub(crate) struct Site {
    pub(crate) platform: Platform,
    /// The routes behind a door that opens to nobody.
    pub(crate) router: Router,
    pub(crate) table: Vec<RouteEntry>,
    open: Router,
    pub(crate) db: db::Db,
    pub(crate) dir: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let db = db::Db::open(&settings.database, dir.path()).await.unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        let about = About {
            started: Instant::now(),
            listen_url: "http://127.0.0.1:8000".to_owned(),
            public_url: None,
            database: asgard::platform::database_name(&db),
        };
        let platform = Platform::build(Ground {
            settings: &settings,
            data_dir: dir.path(),
            db: db.clone(),
            sandbox: Sandbox::detect(&settings.sandbox).await.unwrap(),
            about,
            metrics: Metrics::detached().unwrap(),
            job_server: JobServer::new(TaskTracker::new()),
            deployment_server: DeploymentServer::new(
                TaskTracker::new(),
                settings.server.clone(),
                None,
                false,
                false,
            ),
            program: env!("CARGO_BIN_EXE_asgard").into(),
            jobs_url: "http://127.0.0.1:8001".to_owned(),
        })
        .await
        .unwrap();
        let routes = platform.routes();
        let table = routes.table().to_vec();
        let router = routes.into_router();
        let door = || Door::new(platform.authenticate());
        Self {
            open: door().open_to(Identity::Local).guard(router.clone()),
            router: door().guard(router),
            platform,
            table,
            db,
            dir,
        }
    }

    /// The folder of its artifacts.
    pub(crate) fn artifacts(&self) -> std::path::PathBuf {
        self.dir.path().join("artifacts")
    }

    /// Sends a request as nobody in particular.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&mlflow_ui::below_its_path(self.router.clone()), request).await
    }

    /// Sends a request as someone on this machine.
    pub(crate) async fn send_locally(&self, request: Request<Body>) -> Answer {
        send(&mlflow_ui::below_its_path(self.open.clone()), request).await
    }

    /// Sends a request as `identity`.
    pub(crate) async fn send_as(&self, identity: Identity, request: Request<Body>) -> Answer {
        let door = Door::new(self.platform.authenticate()).open_to(identity);
        let router = door.guard(self.platform.routes().into_router());
        send(&mlflow_ui::below_its_path(router), request).await
    }
}

pub(crate) fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:8000")
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request("GET", path).body(Body::empty()).unwrap()
}
