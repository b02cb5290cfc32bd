//! Tracking with an empty database and an empty artifact folder, asked without a network.

use aws::AwsVariables;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use db::testing::TestDb;
use serde_json::Value;
use tempfile::TempDir;
use tracking::{Artifacts, ArtifactsConfig, NewRun, PresignedUrls, Run, Tracking};
use web::Identity;
use web::testing::{Answer, request, send_as};

pub(crate) struct Server {
    router: Router,
    pub(crate) tracking: Tracking,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    pub(crate) dir: TempDir,
    db: TestDb,
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

/// As [`both`], with tracking changed for each.
pub(crate) async fn both_tracking(change: impl Fn(Tracking) -> Tracking) -> [Server; 2] {
    both().await.map(|server| {
        let tracking = change(server.tracking.clone());
        Server::of(tracking, server.db, server.dir)
    })
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
            db,
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

    /// How many points of metrics there are, whoever they belong to.
    pub(crate) async fn points(&self) -> i64 {
        self.count("metrics").await
    }

    /// How many spans lack what searches look at.
    pub(crate) async fn spans_without_texts(&self) -> i64 {
        self.count("trace_spans WHERE content IS NULL").await
    }

    async fn count(&self, rows: &str) -> i64 {
        let mut conn = self.db.acquire().await.unwrap();
        let counted = db::query(format!("SELECT COUNT(*) FROM {rows}"));
        counted.fetch_one(&mut conn).await.unwrap().get(0)
    }

    /// Makes 5,000 runs that ended, with this value of a metric.
    pub(crate) async fn crowd(&self, experiment_id: &str, key: &str, value: f64) {
        let mut tx = self.db.begin().await.unwrap();
        let runs = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5000)
             INSERT INTO runs (run_id, experiment_id, name, status, lifecycle_stage, user_id, start_time, artifact_uri)
             SELECT 'crowd' || CAST(n AS TEXT), {experiment_id}, 'crowd', 'FINISHED', 'active', '', n, '' FROM numbers"
        );
        db::query(runs).execute(&mut tx).await.unwrap();
        let metrics = format!(
            "INSERT INTO latest_metrics (run, key, value, is_nan, value_bits, timestamp, step, settled_value)
             SELECT run, '{key}', {value}, FALSE, 0, 0, 0, {value} FROM runs WHERE name = 'crowd'"
        );
        db::query(metrics).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Makes all spans as they were before searches looked at them.
    pub(crate) async fn make_spans_old(&self) {
        let mut tx = self.db.begin().await.unwrap();
        let old = "UPDATE trace_spans SET name = NULL, type = NULL, status = NULL, content = NULL";
        db::query(old).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
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

    pub(crate) async fn ask(&self, caller: Identity, request: Request<Body>) -> Answer {
        send_as(&self.router, caller, request).await
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
        self.ask(caller, request(method, &path, Some(&body))).await
    }

    /// Posts JSON to a route under `/api/2.0/mlflow-artifacts`.
    pub(crate) async fn proxy(&self, path: &str, body: Value) -> Answer {
        let path = format!("/api/2.0/mlflow-artifacts/{path}");
        let request = request(Method::POST, &path, Some(&body));
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
