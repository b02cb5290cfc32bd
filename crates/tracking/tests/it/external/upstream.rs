//! A small server that stands for an external MLflow server, and asgard in front of it.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tracking::{Config, External, Tracking};
use web::Identity;
use web::testing::Answer;

use crate::server::Server;

pub(super) const RUN: &str = "0123456789abcdef0123456789abcdef";
pub(super) const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// What the external server was asked: method, path with query, authorization, body.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    pub(super) cookie: bool,
    pub(super) bytes: usize,
    pub(super) body: Value,
}

#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Asked>>>);

impl Seen {
    pub(super) fn last(&self) -> Asked {
        self.0.lock().unwrap().last().cloned().unwrap()
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn refused(status: StatusCode, code: &str) -> Response {
    let body = json!({ "error_code": code, "message": format!("upstream says {code}") });
    (status, Json(body)).into_response()
}

/// A server with one run, one file and its own way of refusing.
pub(super) async fn answer(State(seen): State<Seen>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name: header::HeaderName| {
        let value = parts.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let path = parts.uri.path().to_owned();
    let bytes = match path.contains("mlflow-artifacts") {
        true => count(body).await,
        false => to_bytes(body, 1 << 20).await.unwrap(),
    };
    seen.0.lock().unwrap().push(Asked {
        method: parts.method.clone(),
        path: parts.uri.to_string(),
        authorization: text(header::AUTHORIZATION),
        cookie: parts.headers.contains_key(header::COOKIE),
        bytes: bytes.len(),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    });
    let info = json!({
        "run_id": RUN, "run_name": "n", "experiment_id": "1", "status": "RUNNING",
        "lifecycle_stage": "active", "start_time": 1, "user_id": "",
        "artifact_uri": format!("mlflow-artifacts:/1/{RUN}/artifacts"),
    });
    match path.trim_start_matches("/base/api/2.0/") {
        "mlflow/runs/create" | "mlflow/runs/get" => {
            Json(json!({ "run": { "info": info, "data": {}, "inputs": {} } })).into_response()
        }
        "mlflow/runs/search" => refused(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
        "mlflow/experiments/search" => {
            Json(json!({ "experiments": [{"experiment_id": "0"}, {"experiment_id": "1"}] }))
                .into_response()
        }
        "mlflow/experiments/get" if parts.uri.query() == Some("experiment_id=1") => {
            Json(json!({ "experiment": { "experiment_id": "1", "name": "churn" } })).into_response()
        }
        "mlflow/experiments/get" => StatusCode::UNAUTHORIZED.into_response(),
        "mlflow/traces" | "/base/api/3.0/mlflow/traces" => {
            let id = format!("tr-{}", seen.count());
            Json(json!({ "trace": { "trace_info": { "trace_id": id } } })).into_response()
        }
        "mlflow-artifacts/artifacts" => {
            Json(json!({ "files": [{ "path": "MLmodel", "is_dir": false, "file_size": 5 }] }))
                .into_response()
        }
        "/base/api/3.0/mlflow/datasets/create" => {
            Json(json!({ "dataset": { "dataset_id": "d-1" } })).into_response()
        }
        "/base/api/3.0/mlflow/scorers/register" => {
            Json(json!({ "experiment_id": "1", "name": "s", "version": 3 })).into_response()
        }
        "/base/api/3.0/mlflow/scorers/versions" => {
            Json(json!({ "scorers": [{ "scorer_version": 2 }, { "scorer_version": 3 }] }))
                .into_response()
        }
        "/base/api/3.0/mlflow/traces/get" if !parts.uri.to_string().contains(OTHER) => {
            refused(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST")
        }
        path if path.ends_with("/torn/MLmodel") => "abc".into_response(),
        path if path.ends_with("/MLmodel") => "hello".into_response(),
        path if path.ends_with("/big") => {
            let piece = Bytes::from(vec![7_u8; 1 << 20]);
            let pieces = futures_util::stream::iter(
                (0..64).map(move |_| Ok::<_, std::io::Error>(piece.clone())),
            );
            Body::from_stream(pieces).into_response()
        }
        _ => Json(json!({})).into_response(),
    }
}

/// Reads a body piece by piece; keeps nothing but its length, as zeros.
pub(super) async fn count(body: Body) -> Bytes {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    vec![0; bytes].into()
}

/// Listens at a port below those that the kernel gives to connections, so that it can be taken
/// again after a while.
pub(super) fn listen() -> std::net::TcpListener {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = std::net::TcpListener::bind(format!("127.0.0.1:{port}")) {
            return listener;
        }
    }
}

pub(super) struct Upstream {
    pub(super) url: String,
    pub(super) seen: Seen,
    /// Its own, so that its connections end with it.
    pub(super) runtime: Option<Runtime>,
}

impl Upstream {
    pub(super) fn start() -> Self {
        let listener = listen();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://me:pass@{}/base", listener.local_addr().unwrap());
        let seen = Seen::default();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            url,
            seen,
            runtime: Some(runtime),
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A server on each database, whose runs the upstream keeps.
pub(super) async fn both(url: &str) -> [Server; 2] {
    let config = Config {
        uri: Some(url.to_owned()),
        ..Config::default()
    };
    crate::server::both_with(|db| {
        let external = External::of(&config, db.clone()).unwrap().unwrap();
        Tracking::at(external, db).with_job_experiments(Arc::new(|job_id| {
            let named = (job_id == "j1").then(|| "churn".to_owned());
            Box::pin(async move { Ok(named) })
        }))
    })
    .await
}

pub(super) async fn post(server: &Server, caller: Identity, path: &str, body: Value) -> Answer {
    server.json_as(caller, Method::POST, path, body).await
}
