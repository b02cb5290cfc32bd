//! A feature store behind its routes, for one test.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use db::testing::TestDb;
use feature_store::{Config, FeatureStore, MIGRATIONS, SubmittedScript};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tower::ServiceExt as _;
use web::{Door, Identity};

pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) dir: TempDir,
    pub(crate) database: &'static str,
    /// The last upload that training has asked for.
    submitted: Arc<Mutex<Option<Value>>>,
    /// The addresses that are served.
    pub(crate) paths: Vec<String>,
    _db: TestDb,
}

/// The customers of the examples: three rows of two customers.
pub(crate) const CUSTOMERS: &str = "\
customer_id,event_timestamp,total_orders,avg_order_value,segment
1,2025-11-01T00:00:00,3,10.5,gold
1,2025-11-02T00:00:00,4,11.5,gold
2,2025-11-01T12:00:00,1,99.0,new
";

impl App {
    fn new(db: TestDb, config: &Config) -> Self {
        Self::over(db, config, tempfile::tempdir().unwrap())
    }

    fn over(db: TestDb, config: &Config, dir: TempDir) -> Self {
        let store = FeatureStore::new(db.clone(), config, dir.path());
        let door = Door::new(Arc::new(|_| Box::pin(async { Ok(None) }))).open_to(Identity::Local);
        let submitted = Arc::new(Mutex::new(None));
        let kept = submitted.clone();
        let submit = move |body: Map<String, Value>, _| {
            *kept.lock().unwrap() = Some(Value::Object(body));
            let job = SubmittedScript {
                job_id: "job".to_owned(),
                status: "queued".to_owned(),
                created_at: 0,
            };
            Box::pin(async { Ok(job) }) as futures_util::future::BoxFuture<'static, _>
        };
        let routes = feature_store::training_routes(store.clone(), Arc::new(submit))
            .merge(feature_store::routes(store));
        let paths = routes.table().iter().map(|r| r.path.clone()).collect();
        let router = door.guard(routes.into_router());
        Self {
            router,
            dir,
            database: db.name,
            submitted,
            paths,
            _db: db,
        }
    }

    /// One on each database.
    pub(crate) async fn both() -> [Self; 2] {
        let dbs = db::testing::both(&[MIGRATIONS]).await;
        dbs.map(|db| Self::new(db, &Config::default()))
    }

    /// The same database and data directory after a restart.
    pub(crate) async fn restarted(self) -> Self {
        let Self { dir, _db: db, .. } = self;
        // The file of the online store is free when its last user is gone.
        Self::over(db, &Config::default(), dir)
    }

    /// One on SQLite with settings of its own.
    pub(crate) async fn with(config: &Config) -> Self {
        Self::new(db::testing::sqlite(&[MIGRATIONS]).await, config)
    }

    /// One on SQLite.
    pub(crate) async fn sqlite() -> Self {
        Self::new(db::testing::sqlite(&[MIGRATIONS]).await, &Config::default())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        let (status, body) = self.send(request.unwrap()).await;
        let value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        (status, value)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.json("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.json("POST", path, Some(body)).await
    }

    pub(crate) async fn import(&self, table: &str, csv: &str) -> (StatusCode, Value) {
        self.import_as(table, "text/csv", csv.as_bytes().to_vec())
            .await
    }

    pub(crate) async fn import_as(
        &self,
        table: &str,
        kind: &str,
        file: Vec<u8>,
    ) -> (StatusCode, Value) {
        let request = Request::post(format!("/feast/tables/gold/{table}"))
            .header("host", "localhost")
            .header("content-type", kind)
            .body(Body::from(file))
            .unwrap();
        let (status, body) = self.send(request).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The last upload that training has asked for.
    pub(crate) fn submitted(&self) -> Option<Value> {
        self.submitted.lock().unwrap().clone()
    }

    /// Imports the customers and defines the view of the documents over them.
    pub(crate) async fn customers(&self) {
        let (status, body) = self.import("customer_aggregates", CUSTOMERS).await;
        assert_eq!(status, 201, "{body}");
        let (status, body) = self.post("/feast/features", customer_features()).await;
        assert_eq!(status, 201, "{body}");
    }
}

/// The first feature view that the documents print, as it stands there.
pub(crate) fn customer_features() -> Value {
    serde_json::json!({
        "name": "customer_features",
        "entities": ["customer_id"],
        "features": [
            { "name": "total_orders", "dtype": "int64" },
            { "name": "avg_order_value", "dtype": "float64" }
        ],
        "source": {
            "table_name": "customer_aggregates",
            "catalog": "iceberg",
            "schema": "gold"
        },
        "ttl_days": 365,
        "tags": { "use_case": "churn_prediction" }
    })
}
