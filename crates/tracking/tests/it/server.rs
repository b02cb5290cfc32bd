//! Tracking with an empty database and an empty artifact folder, asked without a network.

use aws::AwsVariables;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use db::testing::TestDb;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;
use tracking::{Artifacts, ArtifactsConfig, NewRun, PresignedUrls, Run, Tracking};
use web::Identity;

pub(crate) struct Server {
    router: Router,
    pub(crate) tracking: Tracking,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    pub(crate) dir: TempDir,
    _db: TestDb,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    /// The JSON of an answer that must be good.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        self.json()
    }

    /// The status and MLflow's error code.
    pub(crate) fn error(&self) -> (u16, String) {
        let code = self.json()["error_code"].as_str().unwrap().to_owned();
        (self.status.as_u16(), code)
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// One server on each database.
pub(crate) async fn both() -> [Server; 2] {
    let [sqlite, postgres] = db::testing::both(&[tracking::MIGRATIONS]).await;
    let config = ArtifactsConfig::default();
    [
        Server::on(sqlite, &config).await,
        Server::on(postgres, &config).await,
    ]
}

/// A server whose artifacts are in a bucket below the prefix `team/x`, and that bucket.
pub(crate) async fn in_bucket(presigned_urls: PresignedUrls) -> (Server, bucket::Server) {
    let bucket = bucket::Server::start().unwrap();
    let keys = [
        ("AWS_ACCESS_KEY_ID", bucket::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", bucket::SECRET_KEY),
    ];
    let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = ArtifactsConfig {
        url: Some(format!("s3://{}/team/x", bucket::BUCKET)),
        endpoint: Some(bucket.endpoint()),
        presigned_urls,
        aws: AwsVariables::from_variables(keys),
        ..ArtifactsConfig::default()
    };
    let db = db::testing::sqlite(&[tracking::MIGRATIONS]).await;
    (Server::on(db, &config).await, bucket)
}

/// One server on each database, of another tracking than an empty one.
pub(crate) async fn both_with(make: impl Fn(db::Db) -> Tracking) -> [Server; 2] {
    let both = db::testing::both(&[tracking::MIGRATIONS]).await;
    both.map(|db| Server::of(make((*db).clone()), db, tempfile::tempdir().unwrap()))
}

pub(crate) fn job(id: &str) -> Identity {
    Identity::Job {
        job_id: id.to_owned(),
    }
}

impl Server {
    async fn on(db: TestDb, config: &ArtifactsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(config, dir.path()).unwrap();
        let tracking = Tracking::new((*db).clone(), artifacts);
        tracking.ensure_default_experiment().await.unwrap();
        Self::of(tracking, db, dir)
    }

    fn of(tracking: Tracking, db: TestDb, dir: TempDir) -> Self {
        Self {
            router: tracking::routes(tracking.clone()).into_router(),
            tracking,
            name: db.name,
            dir,
            _db: db,
        }
    }

    /// A run in the default experiment.
    pub(crate) async fn run(&self, job_id: Option<&str>) -> Run {
        let new = NewRun {
            experiment_id: "0".to_owned(),
            job_id: job_id.map(str::to_owned),
            ..NewRun::default()
        };
        self.tracking.create_run(new).await.unwrap()
    }

    /// Sends a request as anyone on loopback.
    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        self.send_as(Identity::Local, method, path, body).await
    }

    pub(crate) async fn send_as(
        &self,
        caller: Identity,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(body.into()).unwrap();
        self.ask(caller, request).await
    }

    pub(crate) async fn ask(&self, caller: Identity, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(caller);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap(),
        }
    }

    /// Sends JSON to a route under `/api/2.0/mlflow`.
    pub(crate) async fn json_as(
        &self,
        caller: Identity,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answer {
        let path = format!("/api/2.0/mlflow/{path}");
        self.ask(caller, json_request(method, &path, &body)).await
    }

    /// Posts JSON to a route under `/api/2.0/mlflow-artifacts`.
    pub(crate) async fn proxy(&self, path: &str, body: Value) -> Answer {
        let path = format!("/api/2.0/mlflow-artifacts/{path}");
        let request = json_request(Method::POST, &path, &body);
        self.ask(Identity::Local, request).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.json_as(Identity::Local, Method::POST, path, body)
            .await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.json_as(Identity::Local, Method::PATCH, path, body)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let path = format!("/api/2.0/mlflow/{path}");
        self.send(Method::GET, &path, Body::empty()).await
    }
}

pub(crate) fn json_request(method: Method, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}
