//! Webhooks with an empty database and a working worker, asked without a network.

use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode};
use db::testing::TestDb;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use web::Identity;
use web::testing::{request, send_as};
use webhooks::{Config, Event, Webhooks};

pub(crate) struct Server {
    router: Router,
    pub(crate) webhooks: Webhooks,
    /// `sqlite` or `postgres`, for messages.
    pub(crate) name: &'static str,
    db: TestDb,
    _stop: DropGuard,
}

/// One server on each database.
pub(crate) async fn both(config: Config) -> [Server; 2] {
    let databases = db::testing::both(&[webhooks::MIGRATIONS]).await;
    databases.map(|db| Server::on(db, config.clone()))
}

impl Server {
    fn on(db: TestDb, config: Config) -> Self {
        let webhooks = Webhooks::new((*db).clone(), config, db::Seal::with_key(&[7; 32]));
        let stop = CancellationToken::new();
        tokio::spawn(webhooks.clone().work(stop.clone()));
        Self {
            router: webhooks::routes(webhooks.clone()).into_router(),
            webhooks,
            name: db.name,
            db,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = Some(&body).filter(|body| !body.is_null());
        let request = request(method, path, body);
        let answer = send_as(&self.router, Identity::Local, request).await;
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status, json)
    }

    /// Notes an event in a transaction of its own.
    pub(crate) async fn record(&self, event: Event, data: &Value, commit: bool) {
        let mut tx = self.db.begin().await.unwrap();
        self.webhooks.record(&mut tx, event, data).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
            self.webhooks.wake();
        }
    }

    /// The same server with its registry kept elsewhere.
    pub(crate) fn beside_external(mut self) -> Self {
        let routes = webhooks::routes_beside_external(self.webhooks.clone());
        self.router = routes.into_router();
        self
    }

    /// What the database holds of a secret: as an earlier version wrote it, and sealed.
    pub(crate) async fn stored_secret(&self, webhook_id: &str) -> (Option<String>, Option<String>) {
        let sql = "SELECT secret, sealed_secret FROM webhooks WHERE webhook_id = $1";
        let mut conn = self.db.acquire().await.unwrap();
        let row = db::query(sql).bind(webhook_id).fetch_one(&mut conn).await;
        let row = row.unwrap();
        (row.get(0), row.get(1))
    }

    /// Stores a secret as earlier versions did.
    pub(crate) async fn store_plain_secret(&self, webhook_id: &str, secret: &str) {
        let sql = "UPDATE webhooks SET secret = $2, sealed_secret = NULL WHERE webhook_id = $1";
        self.execute(sql, webhook_id, secret).await;
    }

    pub(crate) async fn store_sealed_secret(&self, webhook_id: &str, sealed: &str) {
        let sql = "UPDATE webhooks SET sealed_secret = $2 WHERE webhook_id = $1";
        self.execute(sql, webhook_id, sealed).await;
    }

    async fn execute(&self, sql: &str, webhook_id: &str, value: &str) {
        let mut tx = self.db.begin().await.unwrap();
        let update = db::query(sql).bind(webhook_id).bind(value);
        update.execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The log of a webhook once nothing waits in it.
    pub(crate) async fn until_ended(&self, webhook_id: &str) -> Vec<Value> {
        let path = format!("/mlops/webhooks/{webhook_id}/deliveries");
        for _ in 0..600 {
            let (_, log) = self.ask(Method::GET, &path, Value::Null).await;
            let log = log["deliveries"].as_array().cloned().unwrap_or_default();
            if !log.is_empty() && log.iter().all(|entry| entry["state"] != "waiting") {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("a delivery does not end");
    }
}
