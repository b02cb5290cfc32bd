//! The registry and tracking with an empty database, asked without a network.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::Method;
use db::Db;
use db::testing::TestDb;
use registry::{JobUpload, Registry};
use serde_json::{Value, json};
use tempfile::TempDir;
use tracking::{
    Artifacts, ArtifactsConfig, Location, LoggedModel, NewLoggedModel, NewRun, Run, Tracking,
};
use web::Identity;
use web::testing::{Answer, request, send_as};

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) registry: Registry,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    pub(crate) dir: TempDir,
    pub(crate) db: Db,
    _db: TestDb,
}

/// One server on each database.
pub(crate) async fn both() -> [Server; 2] {
    let migrations = [tracking::MIGRATIONS, registry::MIGRATIONS];
    let [sqlite, postgres] = db::testing::both(&migrations).await;
    [Server::on(sqlite).await, Server::on(postgres).await]
}

pub(crate) fn job(id: &str) -> Identity {
    Identity::Job {
        job_id: id.to_owned(),
    }
}

/// The upload of the job `MODEL-N` named MODEL, and came from an editor when N is `editor`; that of
/// another job is not known.
fn uploads(
    job_id: String,
) -> Pin<Box<dyn Future<Output = Result<Option<JobUpload>, db::Error>> + Send>> {
    let upload = job_id.rsplit_once('-').map(|(model, number)| JobUpload {
        model_name: model.to_owned(),
        may_promote: number == "editor",
    });
    Box::pin(async move { Ok(upload) })
}

impl Server {
    async fn on(db: TestDb) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&ArtifactsConfig::default(), dir.path()).unwrap();
        let tracking = Tracking::new((*db).clone(), artifacts)
            .with_registered(registry::versions_at((*db).clone()));
        tracking.ensure_default_experiment().await.unwrap();
        let registry =
            Registry::new((*db).clone(), tracking.clone()).with_job_uploads(Arc::new(uploads));
        let routes = registry::routes(registry.clone()).merge(tracking::routes(tracking));
        Self {
            router: routes.into_router(),
            registry,
            name: db.name,
            dir,
            db: (*db).clone(),
            _db: db,
        }
    }

    /// A run in the default experiment.
    pub(crate) async fn run(&self) -> Run {
        let new = NewRun {
            experiment_id: "0".to_owned(),
            ..NewRun::default()
        };
        self.registry.tracking().create_run(new).await.unwrap()
    }

    pub(crate) async fn logged_model(&self, name: &str, run: &Run) -> LoggedModel {
        let new = NewLoggedModel {
            experiment_id: "0".to_owned(),
            name: Some(name.to_owned()),
            source_run_id: Some(run.run_id.clone()),
            ..NewLoggedModel::default()
        };
        let tracking = self.registry.tracking();
        let made = tracking.create_logged_model(new, &Identity::Local);
        made.await.unwrap()
    }

    /// Puts a file below the root of a run or logged model.
    pub(crate) async fn file(&self, root_uri: &str, path: &str) {
        let place = Location::parse_uri(root_uri).unwrap().join(path).unwrap();
        let artifacts = self.registry.tracking().artifacts();
        artifacts
            .put_bytes(&place, Bytes::from_static(b"x"))
            .await
            .unwrap();
    }

    pub(crate) async fn send_as(
        &self,
        caller: Identity,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answer {
        let body = Some(&body).filter(|body| !body.is_null());
        send_as(&self.router, caller, request(method, path, body)).await
    }

    /// Sends JSON to a route under `/api/2.0/mlflow`.
    pub(crate) async fn mlflow(&self, method: Method, path: &str, body: Value) -> Answer {
        let path = format!("/api/2.0/mlflow/{path}");
        self.send_as(Identity::Local, method, &path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.mlflow(Method::POST, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.mlflow(Method::GET, path, Value::Null).await
    }

    /// Makes a registered model.
    pub(crate) async fn model(&self, name: &str) {
        let body = json!({ "name": name });
        self.post("registered-models/create", body).await.ok();
    }

    /// Adds a version whose files are the model of a new run.
    pub(crate) async fn version(&self, name: &str) -> Value {
        let run = self.run().await;
        let body = json!({
            "name": name,
            "source": format!("{}/model", run.artifact_uri),
            "run_id": run.run_id,
        });
        let made = self.post("model-versions/create", body).await.ok();
        made["model_version"].clone()
    }
}
