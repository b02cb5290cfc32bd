//! A feature store behind its routes, for one test.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use db::testing::TestDb;
use feature_store::{
    CatalogConfig, Config, FeatureStore, JobResult, MIGRATIONS, OnlineStore, SubmittedScript,
};
use serde_json::{Map, Value};
use tempfile::TempDir;
use web::testing::request;
use web::{Door, Identity};

use crate::redis::RedisServer;

pub(crate) struct App {
    pub(crate) router: Router,
    /// The routes without a door.
    routes: Router,
    pub(crate) dir: TempDir,
    pub(crate) database: &'static str,
    /// The last upload that training has asked for.
    submitted: Arc<Mutex<Option<Value>>>,
    /// The addresses that are served.
    pub(crate) paths: Vec<String>,
    config: Config,
    pub(crate) db: Arc<TestDb>,
    pub(crate) store: FeatureStore,
    /// Where its online values are, when they are in a store of its own.
    pub(crate) redis: Option<RedisServer>,
}

/// The customers of the examples: three rows of two customers.
pub(crate) const CUSTOMERS: &str = "\
customer_id,event_timestamp,total_orders,avg_order_value,segment
1,2025-11-01T00:00:00,3,10.5,gold
1,2025-11-02T00:00:00,4,11.5,gold
2,2025-11-01T12:00:00,1,99.0,new
";

fn shared() -> Config {
    Config {
        online: OnlineStore::Postgres,
        ..Config::default()
    }
}

/// The routes behind a door that takes everyone for `caller`.
fn guarded(routes: &Router, caller: Identity) -> Router {
    let door = Door::new(Arc::new(|_| Box::pin(async { Ok(None) }))).open_to(caller);
    door.guard(routes.clone())
}

fn describe(
    ids: Vec<String>,
) -> futures_util::future::BoxFuture<'static, Result<Vec<JobResult>, web::ApiError>> {
    let job = |id: String| JobResult {
        status: "completed".to_owned(),
        model_name: format!("model of {id}"),
        model_version: Some("1".to_owned()),
        run_id: None,
        job_id: id,
    };
    Box::pin(async move { Ok(ids.into_iter().map(job).collect()) })
}

impl App {
    fn new(db: TestDb, config: &Config) -> Self {
        Self::over(Arc::new(db), config, tempfile::tempdir().unwrap())
    }

    fn over(db: Arc<TestDb>, config: &Config, dir: TempDir) -> Self {
        let store = FeatureStore::new((**db).clone(), config, dir.path()).unwrap();
        let kept_store = store.clone();
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
            .merge(feature_store::usage_routes(
                store.clone(),
                Arc::new(describe),
            ))
            .merge(feature_store::routes(store));
        let paths = routes.table().iter().map(|r| r.path.clone()).collect();
        let routes = routes.into_router();
        Self {
            router: guarded(&routes, Identity::Local),
            routes,
            dir,
            database: db.name,
            submitted,
            paths,
            config: config.clone(),
            db,
            store: kept_store,
            redis: None,
        }
    }

    /// One on each database.
    pub(crate) async fn both() -> [Self; 2] {
        let dbs = db::testing::both(&[MIGRATIONS]).await;
        dbs.map(|db| Self::new(db, &Config::default()))
    }

    /// The same database and data directory after a restart.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            dir,
            db,
            config,
            redis,
            database,
            ..
        } = self;
        // The file of the online store is free when its last user is gone.
        Self {
            redis,
            database,
            ..Self::over(db, &config, dir)
        }
    }

    /// One with each online store: in memory and a file beside each database, in PostgreSQL, and in
    /// a Redis server where there is one.
    pub(crate) async fn online_stores() -> Vec<Self> {
        let mut apps: Vec<Self> = Self::both().await.into();
        apps.extend(Self::shared_stores().await);
        apps
    }

    /// One with each online store that several servers share.
    pub(crate) async fn shared_stores() -> Vec<Self> {
        let mut shared = Self::new(db::testing::postgres(&[MIGRATIONS]).await, &shared());
        shared.database = "postgres, shared";
        std::iter::once(shared).chain(Self::redis().await).collect()
    }

    /// One whose online values are in a Redis server, where the machine has one.
    pub(crate) async fn redis() -> Option<Self> {
        let redis = RedisServer::start()?;
        let config = Config {
            online: OnlineStore::Redis,
            redis_url: Some(redis.url()),
            // This machine may be busy, and a store that is gone refuses at once.
            redis_timeout_ms: Some(30_000),
            ..Config::default()
        };
        let mut app = Self::with(&config).await;
        app.database = "redis";
        app.redis = Some(redis);
        Some(app)
    }

    /// Another server on the same database and the same tables, with a data directory of its own.
    pub(crate) fn replica(&self) -> Self {
        let warehouse = self.dir.path().join("warehouse");
        let tables = CatalogConfig {
            uri: format!("sqlite://{}", warehouse.join("catalog.db").display()),
            warehouse: warehouse.display().to_string(),
            ..CatalogConfig::default()
        };
        let mut config = self.config.clone();
        config.catalogs.insert("iceberg".to_owned(), tables);
        Self::over(self.db.clone(), &config, tempfile::tempdir().unwrap())
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
        let answer = web::testing::send(&self.router, request).await;
        (answer.status, answer.body.to_vec())
    }

    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let method = method.parse::<Method>().unwrap();
        let (status, body) = self.send(request(method, path, body.as_ref())).await;
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

    /// The answer to an import that says how long its file is before it is sent.
    pub(crate) async fn import_announced(&self, table: &str, size_bytes: u64) -> StatusCode {
        let request = Request::post(format!("/feast/tables/gold/{table}"))
            .header("host", "localhost")
            .header("content-type", "text/csv")
            .header("content-length", size_bytes)
            .body(Body::empty())
            .unwrap();
        self.send(request).await.0
    }

    /// The same routes for somebody else.
    pub(crate) fn as_caller(&self, caller: Identity) -> Caller {
        Caller(guarded(&self.routes, caller))
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

/// Somebody else at the same routes.
pub(crate) struct Caller(Router);

impl Caller {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> StatusCode {
        let request = request(Method::POST, path, Some(body));
        web::testing::send(&self.0, request).await.status
    }
}
