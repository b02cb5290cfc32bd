//! Jobs with an empty database and everything they are built on.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use db::Db;
use db::testing::TestDb;
use environments::{Environments, HostEnvironment};
use jobs::{Config, JobDoor, Jobs, Parts};
use registry::Registry;
use sandbox::Sandbox;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracking::{Artifacts, Tracking};
use web::testing::{Answer, request, send_as};
use web::{ApiError, Authenticate, Credentials, Door, Identity};

/// Standard-library code that a test script starts with: enough of an MLflow client.
pub(crate) const CLIENT: &str = r#"
import json, os, sys, time, urllib.request

def call(method, path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + path, data,
        {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]},
        method=method)
    return json.loads(urllib.request.urlopen(request).read() or "{}")

def start_run():
    made = call("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    return made["run"]["info"]["run_id"]

def put(run_id, path, content):
    call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{path}", content)
"#;

pub(crate) struct Server {
    pub(crate) jobs: Jobs,
    pub(crate) registry: Registry,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    parts: Parts,
    config: Config,
    router: Router,
    dir: Arc<TempDir>,
    db: Arc<TestDb>,
}

/// Settings that need no packages from an index.
pub(crate) fn config() -> Config {
    Config {
        parallel: Some(2),
        default_requirements: Vec::new(),
        always_requirements: Vec::new(),
        warm_interpreters: 0,
        lease_s: 60,
        heartbeat_s: 1,
        ..Config::default()
    }
}

/// One server on each database; nothing works on the jobs yet.
pub(crate) async fn both(config: &Config) -> [Server; 2] {
    let migrations = [tracking::MIGRATIONS, registry::MIGRATIONS, jobs::MIGRATIONS];
    let [sqlite, postgres] = db::testing::both(&migrations).await;
    [
        Server::on(sqlite, config).await,
        Server::on(postgres, config).await,
    ]
}

impl Server {
    async fn on(db: TestDb, config: &Config) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let connections = (*db).clone();
        Self::with(connections, Arc::new(db), dir, config).await
    }

    /// Another process on the same database and folder. What it has open belongs to the runtime
    /// that calls this, and dies with it.
    pub(crate) async fn elsewhere(&self) -> Self {
        let connections = self.db.elsewhere().await;
        Self::with(connections, self.db.clone(), self.dir.clone(), &self.config).await
    }

    async fn with(connections: Db, db: Arc<TestDb>, dir: Arc<TempDir>, config: &Config) -> Self {
        let artifacts = Artifacts::open(&tracking::ArtifactsConfig::default(), dir.path()).unwrap();
        let tracking = Tracking::new(connections.clone(), artifacts);
        tracking.ensure_default_experiment().await.unwrap();
        let registry = Registry::new(connections.clone(), tracking.clone())
            .with_job_uploads(jobs::job_uploads(connections.clone()));
        let sandbox = Sandbox::detect(&sandbox::Config::default()).await.unwrap();
        let environments = environments::Config {
            host: HostEnvironment::from_variables(std::env::vars()),
            ..environments::Config::default()
        };
        let environments = Environments::open(&environments, dir.path(), sandbox.clone())
            .await
            .unwrap();
        let served: Arc<OnceLock<(Router, Jobs)>> = Arc::default();
        let parts = Parts {
            db: connections,
            tracking: tracking.clone(),
            registry: registry.clone(),
            environments,
            sandbox,
            seal: db::Seal::with_key(&[7; 32]),
            door: JobDoor {
                url: "http://127.0.0.1:9".to_owned(),
                serve: serve(served.clone()),
                feast_repo: Some(Arc::new(|server, _| Some(format!("registry: {server}\n")))),
            },
        };
        let jobs = Jobs::new(parts.clone(), config.clone(), dir.path());
        let router = jobs::routes(jobs.clone())
            .merge(tracking::routes(tracking))
            .merge(registry::routes(registry.clone()))
            .into_router();
        assert!(served.set((router.clone(), jobs.clone())).is_ok());
        Self {
            jobs,
            registry,
            name: db.name,
            parts,
            config: config.clone(),
            router,
            dir,
            db,
        }
    }

    /// Makes every job panic when its own listener is to be served.
    pub(crate) fn with_a_door_that_panics(mut self) -> Self {
        self.parts.door.serve = Arc::new(|_, _, _| panic!("no door"));
        self.jobs = self.restarted();
        self
    }

    /// The server after its key is lost, or as another with a key of its own.
    pub(crate) fn with_another_key(mut self) -> Self {
        self.parts.seal = db::Seal::with_key(&[8; 32]);
        self.jobs = self.restarted();
        self.router = jobs::routes(self.jobs.clone()).into_router();
        self
    }

    /// Starts working on the jobs; the guard is dropped as a killed server would be.
    pub(crate) fn work(&self) -> Worker {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.jobs.clone().work(stop.clone()));
        Worker { stop, task }
    }

    /// Makes the stored request of a job one that no version of asgard wrote.
    pub(crate) async fn spoil(&self, job_id: &str) {
        let mut tx = self.db.begin().await.unwrap();
        let spoiled = db::query("UPDATE training_jobs SET request = '{' WHERE job_id = $1")
            .bind(job_id)
            .execute(&mut tx)
            .await;
        assert_eq!(spoiled.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// What the row of a job holds of its request: the request, its hash, the sealed variables.
    pub(crate) async fn stored(&self, job_id: &str) -> (String, String, Option<String>) {
        let sql =
            "SELECT request, request_hash, sealed_variables FROM training_jobs WHERE job_id = $1";
        let mut conn = self.db.acquire().await.unwrap();
        let row = db::query(sql).bind(job_id).fetch_one(&mut conn).await;
        let row = row.unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    /// Stores a job's request and its hash as versions did that sealed no variables.
    pub(crate) async fn store_plain(&self, job_id: &str, request: &str, hash: &str) {
        let mut tx = self.db.begin().await.unwrap();
        let sql = "UPDATE training_jobs SET request = $2, request_hash = $3, sealed_variables = NULL WHERE job_id = $1";
        let stored = db::query(sql).bind(job_id).bind(request).bind(hash);
        assert_eq!(stored.execute(&mut tx).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// Moves the end of a job and what its log says into the past.
    pub(crate) async fn age(&self, job_id: &str, days: i64) {
        let by = days * 24 * 3600 * 1000;
        let mut tx = self.db.begin().await.unwrap();
        for sql in [
            "UPDATE training_jobs SET completed_at = completed_at - $1 WHERE job_id = $2",
            "UPDATE training_job_logs SET at = at - $1 WHERE job_id = $2",
        ] {
            let aged = db::query(sql).bind(by).bind(job_id).execute(&mut tx).await;
            assert!(aged.unwrap() > 0);
        }
        tx.commit().await.unwrap();
    }

    /// The jobs as another process that starts on the same database has them.
    pub(crate) fn restarted(&self) -> Jobs {
        Jobs::new(self.parts.clone(), self.config.clone(), self.dir.path())
    }

    pub(crate) async fn send(
        &self,
        caller: Identity,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = request(method, path, body.as_ref());
        for (name, value) in headers {
            let (name, value) = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
            request.headers_mut().insert(name.unwrap(), value.unwrap());
        }
        send_as(&self.router, caller, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Identity::Local, Method::GET, path, &[], None)
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Identity::Local, Method::POST, path, &[], Some(body))
            .await
    }

    /// Uploads a script with some more fields and gives the job's id.
    pub(crate) async fn upload(&self, script: &str, more: Value) -> String {
        let answer = self
            .post("/mlops/training/upload", body(script, more))
            .await;
        answer.expect(202)["job_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn job(&self, job_id: &str) -> Value {
        let path = format!("/mlops/training/jobs/{job_id}");
        self.get(&path).await.expect(200)
    }

    /// Waits until a job is as `wanted`.
    pub(crate) async fn wait(&self, job_id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let job = self.job(job_id).await;
            if wanted(&job) {
                return job;
            }
            assert!(Instant::now() < patience, "{}: still {job:#}", self.name);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits for the end of a job.
    pub(crate) async fn end(&self, job_id: &str) -> Value {
        self.wait(job_id, |job| !job["completed_at"].is_null())
            .await
    }
}

/// Work on jobs in the background.
pub(crate) struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Stops as a server does on SIGTERM.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// The body of an upload.
pub(crate) fn body(script: &str, more: Value) -> Value {
    let mut body = json!({
        "script_name": "train.py",
        "script_content": script,
        "script_encoding": "plain",
        "experiment_name": "exp",
        "model_name": "model",
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

type Serve = Arc<dyn Fn(TcpListener, String, CancellationToken) + Send + Sync>;

/// Serves a job's own listener as the binary does.
fn serve(served: Arc<OnceLock<(Router, Jobs)>>) -> Serve {
    Arc::new(move |listener, job_id, stop| {
        let (router, jobs) = served.get().unwrap().clone();
        let authenticate: Authenticate = Arc::new(move |Credentials { token }| {
            let jobs = jobs.clone();
            Box::pin(async move {
                let job_id = jobs.authenticate(&token).await.map_err(ApiError::from)?;
                Ok(job_id.map(|job_id| Identity::Job { job_id }))
            })
        });
        let door = Door::new(authenticate).open_to(Identity::Job { job_id });
        let router = door.guard(router);
        tokio::spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .unwrap();
        });
    })
}
