//! A server's parts with models in them, trained by real Python once for all tests.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws::AwsVariables;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use environments::{Environment, EnvironmentRequest, Environments, HostEnvironment};
use registry::{NewVersion, Registry};
use sandbox::Sandbox;
use serde_json::Value;
use serving::{Config, ModelFolder, ModelServer, Serving, Variables};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracking::{Artifacts, ArtifactsConfig, Location, NewRun, Tracking};
use web::testing::{request, send};
use web::{Door, Identity};

/// What the models need; skops 0.15 and later refuses scikit-learn's own trees.
const REQUIREMENTS: [&str; 6] = [
    "lightgbm",
    "mlflow",
    "pandas",
    "scikit-learn",
    "skops<0.15",
    "xgboost",
];
/// Where in a bucket the artifacts are.
const IN_BUCKET: &str = "team/x";
const TRAINING: &str = include_str!("models.py");

/// Serving over a database, an artifact store and a Python environment of their own.
pub(crate) struct Stage {
    pub(crate) registry: Registry,
    pub(crate) serving: Serving,
    router: Router,
    environment: Environment,
    trained: PathBuf,
    stop: CancellationToken,
    parts: (Environments, Sandbox),
    /// Where the models lie, when that is not in the data directory.
    bucket: Option<bucket::Server>,
    _db: db::testing::TestDb,
    pub(crate) data_dir: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub(crate) async fn new(config: Config) -> Self {
        Self::on(&ArtifactsConfig::default(), None, config).await
    }

    /// A stage whose models lie in a bucket.
    pub(crate) async fn in_bucket(config: Config) -> Self {
        let bucket = bucket::Server::start().unwrap();
        let keys = [
            ("AWS_ACCESS_KEY_ID", bucket::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", bucket::SECRET_KEY),
        ];
        let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let artifacts = ArtifactsConfig {
            url: Some(format!("s3://{}/{IN_BUCKET}", bucket::BUCKET)),
            endpoint: Some(bucket.endpoint()),
            aws: AwsVariables::from_variables(keys),
            ..ArtifactsConfig::default()
        };
        Self::on(&artifacts, Some(bucket), config).await
    }

    async fn on(
        artifacts: &ArtifactsConfig,
        bucket: Option<bucket::Server>,
        config: Config,
    ) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let db = db::testing::sqlite(&[tracking::MIGRATIONS, registry::MIGRATIONS]).await;
        let artifacts = Artifacts::open(artifacts, data_dir.path()).unwrap();
        let tracking = Tracking::new(db.clone(), artifacts);
        tracking.ensure_default_experiment().await.unwrap();
        let registry = Registry::new(db.clone(), tracking);
        let sandbox = Sandbox::detect(&sandbox::Config::default()).await.unwrap();
        let (environments, environment, trained) = trained(&sandbox).await;
        let parts = (environments, sandbox);
        let serving = serving(&registry, &parts, config, data_dir.path());
        let stop = CancellationToken::new();
        tokio::spawn(serving.clone().work(stop.clone()));
        let nobody =
            std::sync::Arc::new(|_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
                Box::pin(async { Ok(None) })
            });
        let door = Door::new(nobody).open_to(Identity::Local);
        let router = door.guard(serving::routes(serving.clone()).into_router());
        Self {
            registry,
            serving,
            router,
            environment,
            trained,
            stop,
            parts,
            bucket,
            _db: db,
            data_dir,
        }
    }

    /// Another serving of the same models in the same data directory, which does nothing unasked.
    pub(crate) fn idle(&self, config: Config) -> Serving {
        serving(&self.registry, &self.parts, config, self.data_dir.path())
    }

    /// Registers the next version of `name`, whose files are those of the trained `model`.
    pub(crate) async fn register(&self, name: &str, model: &str) -> i64 {
        self.register_folder(name, &self.folder(model), true).await
    }

    /// As [`Self::register`], with or without the word which environment it was trained in.
    pub(crate) async fn register_folder(&self, name: &str, folder: &Path, tagged: bool) -> i64 {
        self.register_changed(name, folder, tagged, |_| ()).await
    }

    /// As [`Self::register_folder`], with files that are changed before anybody hears of them.
    pub(crate) async fn register_changed(
        &self,
        name: &str,
        folder: &Path,
        tagged: bool,
        change: impl FnOnce(&Path),
    ) -> i64 {
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
        let place = match (&self.bucket, tracking.artifacts().local_dir(&location)) {
            (Some(bucket), _) => bucket.folder().join(IN_BUCKET).join(location.key()),
            (None, local) => local.unwrap(),
        };
        copy(folder, &place);
        change(&place);
        let tag = (
            "asgard.environment".to_owned(),
            self.environment.key.clone(),
        );
        let version = NewVersion {
            name: name.to_owned(),
            source: location.uri(),
            run_id: Some(run.run_id),
            tags: tagged.then_some(tag).into_iter().collect(),
            ..NewVersion::default()
        };
        self.registry.create_version(version).await.unwrap().version
    }

    /// Where a file of the first version of a model is in the artifact store.
    pub(crate) async fn file_of(&self, name: &str, file: &str) -> PathBuf {
        let selector = registry::Selector::Number(1);
        let version = self.registry.resolve(name, &selector).await.unwrap();
        let location = Location::parse_uri(&version.source).unwrap();
        let artifacts = self.registry.tracking().artifacts();
        let file = artifacts.local_dir(&location).unwrap().join(file);
        assert!(file.is_file(), "{}", file.display());
        file
    }

    /// Where the files of a trained model are.
    pub(crate) fn folder(&self, model: &str) -> PathBuf {
        self.trained.join(model)
    }

    /// A trained model as a model server has it, under its own name as version 7.
    pub(crate) async fn model_server(&self, model: &str) -> ModelServer {
        self.model_server_with(model, Variables::default()).await
    }

    /// As [`Self::model_server`], with variables for the model's code.
    pub(crate) async fn model_server_with(&self, model: &str, variables: Variables) -> ModelServer {
        let folder = self.model_folder(model, self.folder(model));
        let home = self.data_dir.path().join("model-server");
        load(folder, variables, Config::default(), home)
            .await
            .unwrap()
    }

    /// A folder as version 7 of a model, in the environment of all models here.
    pub(crate) fn model_folder(&self, model: &str, folder: PathBuf) -> ModelFolder {
        ModelFolder {
            name: model.to_owned(),
            version: 7,
            folder: folder.into(),
            environment: Environment::at(&self.environment.root),
            proof: None,
        }
    }

    /// The columns of a request to a trained model. They are text: their order counts.
    pub(crate) fn inputs(&self, model: &str) -> String {
        std::fs::read_to_string(self.trained.join(format!("{model}.inputs.json"))).unwrap()
    }

    /// What Python answers to [`Self::inputs`].
    pub(crate) fn answers(&self, model: &str) -> Value {
        let text = std::fs::read(self.trained.join(format!("{model}.json"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Posts a body to the route.
    pub(crate) async fn post(&self, body: impl Into<String>) -> (StatusCode, Value) {
        post(&self.router, "/mlops/inference", body.into()).await
    }

    /// Asks the latest version, with probabilities.
    pub(crate) async fn ask(&self, name: &str, inputs: &str) -> (StatusCode, Value) {
        self.post(format!(
            r#"{{"model_name": {name:?}, "inputs": {inputs}, "return_probabilities": true}}"#
        ))
        .await
    }
}

/// Loads a folder as a model server does.
pub(crate) async fn load(
    folder: ModelFolder,
    variables: Variables,
    config: Config,
    home: PathBuf,
) -> Result<ModelServer, serving::Error> {
    let sandbox = Sandbox::detect(&sandbox::Config::default()).await.unwrap();
    ModelServer::load(folder, variables, None, sandbox, config, home).await
}

/// Posts a text as JSON: the order of its columns counts.
pub(crate) async fn post(router: &Router, path: &str, body: String) -> (StatusCode, Value) {
    let mut request = request(Method::POST, path, Some(&Value::Null));
    *request.body_mut() = Body::from(body);
    let answer = send(router, request).await;
    (answer.status, answer.json())
}

/// The environment, and the folder of models that were trained in it. Test processes that come
/// at the same time wait for the first.
async fn trained(sandbox: &Sandbox) -> (Environments, Environment, PathBuf) {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("serving");
    std::fs::create_dir_all(&home).unwrap();
    let config = environments::Config {
        host: HostEnvironment::from_variables(std::env::vars()),
        resolution_ttl_s: 7 * 24 * 3600,
        ..environments::Config::default()
    };
    let environments = Environments::open(&config, &home, sandbox.clone())
        .await
        .unwrap();
    let lock = File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    let request = EnvironmentRequest {
        requirements: REQUIREMENTS.map(str::to_owned).into(),
        python: None,
        probe: vec!["sklearn.ensemble".to_owned(), "mlflow.pyfunc".to_owned()],
    };
    let environment = environments.ensure(&request, &|_| {}).await.unwrap();
    let folder = home.join(format!(
        "models-{}-{:x}",
        environment.key,
        fingerprint(TRAINING)
    ));
    if !folder.join("complete").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let training = Command::new(&environment.python)
            .args(["-c", TRAINING])
            .arg(&folder)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            training.status.success(),
            "training the test models failed: {}",
            String::from_utf8_lossy(&training.stderr)
        );
        std::fs::write(folder.join("complete"), "").unwrap();
    }
    (environments, environment, folder)
}

fn fingerprint(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A feature store of customers 1 and 2, in a view `customers` with the columns of the models.
fn serving(
    registry: &Registry,
    (environments, sandbox): &(Environments, Sandbox),
    config: Config,
    data_dir: &Path,
) -> Serving {
    Serving::new(
        registry.clone(),
        environments.clone(),
        sandbox.clone(),
        config,
        data_dir,
        Some(features()),
    )
}

fn features() -> serving::OnlineFeatures {
    std::sync::Arc::new(|asked: serving::FeaturesAsked| {
        Box::pin(async move {
            if asked.from != ["customers"] {
                let message = format!("Feature view {:?} not found", asked.from);
                return Err(web::ApiError::new(web::Code::NotFound, message));
            }
            let ids = asked.entities.get("customer_id").cloned();
            let ids = ids.unwrap_or_default();
            let known = |id: &Value| matches!(id.as_i64(), Some(1 | 2));
            let feature = |index: usize| serving::FoundFeature {
                view: "customers".to_owned(),
                name: format!("feature_{index}"),
                values: ids
                    .iter()
                    .map(|id| {
                        known(id)
                            .then(|| customer(id.as_f64().unwrap(), index))
                            .into()
                    })
                    .collect(),
            };
            let unknown = ids.iter().filter(|id| !known(id));
            Ok(serving::FeaturesFound {
                join_keys: vec!["customer_id".to_owned()],
                // One more than the models take.
                features: (0..21).map(feature).collect(),
                notes: unknown
                    .map(|id| format!("customer_id {id} is unknown"))
                    .collect(),
            })
        })
    })
}

/// The feature of that number of a customer.
pub(crate) fn customer(id: f64, feature: usize) -> f64 {
    (id - 1.5) * (feature as f64 - 10.0) / 4.0
}
