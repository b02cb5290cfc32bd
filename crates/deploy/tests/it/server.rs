//! Deployments with an empty database and everything they are built on.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use db::testing::TestDb;
use deploy::{Config, Deployments, Failure, ImageOrder, ImageStep, Parts, PullLogin};
use environments::{Environments, HostEnvironment};
use jobs::{JobDoor, Jobs};
use registry::{NewVersion, Registry};
use sandbox::Sandbox;
use serde_json::{Value, json};
use serving::Serving;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracking::{Artifacts, Location, NewRun, Tracking};
use web::testing::{Answer, request, send_as};
use web::{Door, Identity, Routes};

const STAND_IN: &str = include_str!("stand_in.py");

pub(crate) struct Server {
    pub(crate) registry: Registry,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    pub(crate) deployments: Deployments,
    config: Config,
    parts: Parts,
    /// What the nodes of a cluster pull images with.
    login: Arc<Mutex<String>>,
    dir: TempDir,
    _db: TestDb,
}

/// One server on each database; nothing is carried out yet.
pub(crate) async fn both() -> [Server; 2] {
    both_with(|_| ()).await
}

/// As [`both`], with settings changed for each.
pub(crate) async fn both_with(change: impl Fn(&mut Config)) -> [Server; 2] {
    let migrations = [
        tracking::MIGRATIONS,
        registry::MIGRATIONS,
        jobs::MIGRATIONS,
        deploy::MIGRATIONS,
    ];
    let [sqlite, postgres] = db::testing::both(&migrations).await;
    let config = || {
        let mut config = config();
        change(&mut config);
        config
    };
    [
        Server::on(sqlite, config()).await,
        Server::on(postgres, config()).await,
    ]
}

/// Tests run beside each other, in processes of their own or in one: the ports of each server are its
/// own, below those that the kernel gives to connections.
fn config() -> Config {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 7 + MADE.fetch_add(1, Ordering::Relaxed);
    let first_port = 12_000 + u16::try_from(number % 400).unwrap() * 50;
    Config {
        replicas: 1,
        first_port,
        last_port: first_port + 49,
        start_timeout_s: 120,
        // A request that a test holds is held until the test lets it go.
        request_timeout_ms: 600_000,
        ..Config::default()
    }
}

impl Server {
    async fn on(db: TestDb, config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&tracking::ArtifactsConfig::default(), dir.path()).unwrap();
        let tracking = Tracking::new((*db).clone(), artifacts);
        tracking.ensure_default_experiment().await.unwrap();
        let registry = Registry::new((*db).clone(), tracking.clone());
        let sandbox = Sandbox::detect(&sandbox::Config::default()).await.unwrap();
        let environments = environments::Config {
            host: HostEnvironment::from_variables(std::env::vars()),
            ..environments::Config::default()
        };
        let environments = Environments::open(&environments, dir.path(), sandbox.clone())
            .await
            .unwrap();
        let serving = Serving::new(
            registry.clone(),
            environments.clone(),
            sandbox.clone(),
            serving::Config::default(),
            dir.path(),
            None,
        );
        let jobs = Jobs::new(
            jobs::Parts {
                db: (*db).clone(),
                tracking,
                registry: registry.clone(),
                environments,
                sandbox: sandbox.clone(),
                seal: db::Seal::with_key(&[7; 32]),
                door: JobDoor {
                    url: "http://127.0.0.1:9".to_owned(),
                    serve: Arc::new(|_, _, _| {}),
                    feast_repo: None,
                },
            },
            jobs::Config::default(),
            dir.path(),
        );
        let login = Arc::new(Mutex::new("first".to_owned()));
        let parts = Parts {
            db: (*db).clone(),
            jobs,
            registry: registry.clone(),
            serving,
            sandbox,
            seal: db::Seal::with_key(&[7; 32]),
            program: stand_in(&dir),
            serve: Arc::new(serve),
            image: Some(Arc::new(|order| Box::pin(make_image(order)))),
            pull: Some(pull_login(Arc::clone(&login))),
        };
        let deployments = Deployments::open(parts.clone(), config.clone(), dir.path()).unwrap();
        Self {
            registry,
            name: db.name,
            deployments,
            config,
            parts,
            login,
            dir,
            _db: db,
        }
    }

    /// Changes what nodes pull images with.
    pub(crate) fn log_in_as(&self, login: &str) {
        *self.login.lock().unwrap() = login.to_owned();
    }

    /// Starts to carry deployments out.
    pub(crate) fn work(&self) -> Worker {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.deployments.clone().work(stop.clone()));
        Worker { stop, task }
    }

    /// The same server after its process has ended and begun again.
    pub(crate) fn restarted(mut self) -> Self {
        let parts = self.parts.clone();
        let config = self.config.clone();
        self.deployments = Deployments::open(parts, config, self.dir.path()).unwrap();
        self
    }

    /// The server after its key is lost, or as another with a key of its own.
    pub(crate) fn with_another_key(mut self) -> Self {
        self.parts.seal = db::Seal::with_key(&[8; 32]);
        self.restarted()
    }

    pub(crate) async fn send(
        &self,
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
        let router = deploy::routes(self.deployments.clone()).into_router();
        send_as(&router, Identity::Local, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, &[], Some(body)).await
    }

    /// Registers the next version of `name`, a folder with these files beside an MLmodel.
    pub(crate) async fn register(&self, name: &str, files: &[(&str, &str)]) -> i64 {
        let tracking = self.registry.tracking();
        self.registry
            .create_model_if_missing(name, None)
            .await
            .unwrap();
        let run = NewRun {
            experiment_id: "0".to_owned(),
            ..NewRun::default()
        };
        let run = tracking.create_run(run).await.unwrap();
        let location = Location::parse_uri(&run.artifact_uri).unwrap();
        let location = location.join("model").unwrap();
        let folder = tracking.artifacts().local_dir(&location).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        let flavors = "flavors: {python_function: {loader_module: mine}}\n";
        for (file, content) in [("MLmodel", flavors)].iter().chain(files) {
            std::fs::write(folder.join(file), content).unwrap();
        }
        let version = NewVersion {
            name: name.to_owned(),
            source: location.uri(),
            run_id: Some(run.run_id),
            ..NewVersion::default()
        };
        self.registry.create_version(version).await.unwrap().version
    }

    /// Registers a version that can be served and deploys it.
    pub(crate) async fn deploy(&self, name: &str, more: Value) -> Value {
        self.register(name, &[("requirements.txt", "")]).await;
        let mut body = json!({ "model_name": name });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.post("/mlops/deploy", body).await.expect(200)
    }

    pub(crate) async fn deployment(&self, id: &Value) -> Value {
        self.get(&at(id, "")).await.expect(200)
    }

    /// What the row of a deployment holds of its script's upload.
    pub(crate) async fn stored_training(&self, id: &Value) -> String {
        let sql = "SELECT training FROM deployments WHERE deployment_id = $1";
        let mut conn = self.parts.db.acquire().await.unwrap();
        let row = db::query(sql).bind(id.as_str().unwrap());
        row.fetch_one(&mut conn).await.unwrap().get(0)
    }

    /// What the row of a deployment holds of its request.
    pub(crate) async fn stored_request(&self, id: &Value) -> String {
        let sql = "SELECT request FROM deployments WHERE deployment_id = $1";
        let mut conn = self.parts.db.acquire().await.unwrap();
        let row = db::query(sql).bind(id.as_str().unwrap());
        row.fetch_one(&mut conn).await.unwrap().get(0)
    }

    /// Puts a request into the row of a deployment, as an earlier version did.
    pub(crate) async fn store_request(&self, id: &Value, request: &str) {
        let sql = "UPDATE deployments SET request = $2 WHERE deployment_id = $1";
        let mut tx = self.parts.db.begin().await.unwrap();
        let row = db::query(sql).bind(id.as_str().unwrap()).bind(request);
        row.execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The variables that a training job's script gets.
    pub(crate) async fn variables_of(&self, job_id: &Value) -> BTreeMap<String, String> {
        let job = self.parts.jobs.get(job_id.as_str().unwrap()).await;
        job.unwrap().request.environment_vars
    }

    /// Waits until so many lines of a deployment's log hold a text.
    pub(crate) async fn log_has(&self, id: &Value, text: &str, count: usize) {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let log = self.get(&at(id, "/logs")).await.expect(200);
            if log.to_string().matches(text).count() >= count {
                return;
            }
            assert!(Instant::now() < patience, "{}: only {log:#}", self.name);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, wanted: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(120);
        while !wanted() {
            assert!(Instant::now() < patience, "{}: it is not so", self.name);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// How many replicas have a folder.
    pub(crate) fn replica_folders(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("replicas")).map_or(0, Iterator::count)
    }

    /// Lets the requests go that wait for the first version of a model.
    pub(crate) async fn release(&self, name: &str) {
        let selector = registry::Selector::Number(1);
        let version = self.registry.resolve(name, &selector).await.unwrap();
        let location = Location::parse_uri(&version.source).unwrap();
        let artifacts = self.registry.tracking().artifacts();
        let folder = artifacts.local_dir(&location).unwrap();
        std::fs::write(folder.join("release"), "").unwrap();
    }

    /// Waits until a deployment is as `wanted`.
    pub(crate) async fn wait(&self, id: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let deployment = self.deployment(id).await;
            if wanted(&deployment) {
                return deployment;
            }
            assert!(
                Instant::now() < patience,
                "{}: still {deployment:#}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// The path of a deployment, or of a part of it.
pub(crate) fn at(id: &Value, part: &str) -> String {
    format!("/mlops/deployments/{}{part}", id.as_str().unwrap())
}

/// Work on deployments in the background.
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

/// Makes an image whose digest tells the version.
async fn make_image(order: ImageOrder) -> Result<String, Failure> {
    let _ = order.steps.send(ImageStep::Line("2 layers".to_owned()));
    let _ = order.steps.send(ImageStep::Pushing);
    let version = order.version.version;
    Ok(format!("registry.test/model@sha256:{version:064x}"))
}

fn pull_login(login: Arc<Mutex<String>>) -> PullLogin {
    PullLogin {
        registries: vec!["registry.test".to_owned()],
        find: Arc::new(move || {
            let login = login.lock().unwrap().clone();
            Box::pin(async { Ok(Some(login)) })
        }),
    }
}

fn stand_in(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("stand-in");
    std::fs::write(&path, STAND_IN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Serves a deployment's address, open to everyone on this machine.
fn serve(listener: TcpListener, routes: Routes, stop: CancellationToken) -> Result<(), String> {
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| e.to_string())?;
    let nobody = Arc::new(|_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async { Ok(None) })
    });
    let router: Router = Door::new(nobody)
        .open_to(Identity::Local)
        .guard(routes.into_router());
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        served.await.unwrap();
    });
    Ok(())
}

/// Which version answers.
pub(crate) async fn version(url: &Value) -> String {
    let (status, answer) = ask(url, &json!({})).await;
    assert_eq!(status, 200, "{answer:#}");
    answer["version"].as_str().unwrap().to_owned()
}

/// Posts to a deployed model over a real connection; its status and answer.
pub(crate) async fn ask(url: &Value, body: &Value) -> (u16, Value) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = url.as_str().unwrap().trim_start_matches("http://");
    let patience = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        // After a restart the address is bound again when the one before has let it go.
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < patience, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    let body = body.to_string();
    let request = format!(
        "POST /predict HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}
