//! Tracking that an external MLflow server keeps: a small server of this test stands for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tracking::{Config, External, Kind, Location, RunStatus, Stamp, Tracking};
use web::testing::Answer;
use web::{Identity, Role};

use crate::server::{Server, job};

const RUN: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// What the external server was asked: method, path with query, authorization, body.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    authorization: Option<String>,
    cookie: bool,
    bytes: usize,
    body: Value,
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Asked>>>);

impl Seen {
    fn last(&self) -> Asked {
        self.0.lock().unwrap().last().cloned().unwrap()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn refused(status: StatusCode, code: &str) -> Response {
    let body = json!({ "error_code": code, "message": format!("upstream says {code}") });
    (status, Json(body)).into_response()
}

/// A server with one run, one file and its own way of refusing.
async fn answer(State(seen): State<Seen>, request: Request<Body>) -> Response {
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
async fn count(body: Body) -> Bytes {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        bytes += piece.unwrap().len();
    }
    vec![0; bytes].into()
}

/// Listens at a port below those that the kernel gives to connections, so that it can be taken
/// again after a while.
fn listen() -> std::net::TcpListener {
    use std::hash::{BuildHasher as _, RandomState};
    loop {
        let port = 10_000 + RandomState::new().hash_one(()) % 22_000;
        if let Ok(listener) = std::net::TcpListener::bind(format!("127.0.0.1:{port}")) {
            return listener;
        }
    }
}

struct Upstream {
    url: String,
    seen: Seen,
    /// Its own, so that its connections end with it.
    runtime: Option<Runtime>,
}

impl Upstream {
    fn start() -> Self {
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

    fn stop(&mut self) {
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
async fn both(url: &str) -> [Server; 2] {
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

async fn post(server: &Server, caller: Identity, path: &str, body: Value) -> Answer {
    server.json_as(caller, Method::POST, path, body).await
}

#[tokio::test]
async fn requests_and_refusals_pass_as_they_are() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/2.0/mlflow/runs/search?x=%20y")
            .header(header::AUTHORIZATION, "Bearer of-asgard")
            .header(header::COOKIE, "a=b")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"filter":"nonsense"}"#))
            .unwrap();
        let refused = server.ask(Identity::Local, request).await;
        assert_eq!(refused.error(), (400, "INVALID_PARAMETER_VALUE".to_owned()));
        assert_eq!(
            refused.json()["message"],
            "upstream says INVALID_PARAMETER_VALUE"
        );
        let asked = upstream.seen.last();
        assert_eq!(
            asked.path, "/base/api/2.0/mlflow/runs/search?x=%20y",
            "{}",
            server.name
        );
        assert_eq!((asked.method, asked.bytes), (Method::POST, 21));
        assert_eq!(asked.body["filter"], "nonsense");
        assert_eq!(asked.authorization.as_deref(), Some("Basic bWU6cGFzcw=="));
        assert!(!asked.cookie);
        // A route that asgard does not have.
        let newer = server
            .send(Method::GET, "/api/9.0/mlflow/new?a=1", "")
            .await;
        newer.ok();
        assert_eq!(upstream.seen.last().path, "/base/api/9.0/mlflow/new?a=1");
    }
}

#[tokio::test]
async fn what_a_job_makes_is_stamped_and_nothing_else_is_its_own() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let tags = json!([{"key": "asgard.job_id", "value": "other"}, {"key": "a", "value": "b"}]);
        let body = json!({ "experiment_id": "1", "tags": tags });
        post(&server, job("j1"), "runs/create", body).await.ok();
        let sent = upstream.seen.last().body;
        assert_eq!(
            sent["tags"],
            json!([{"key": "a", "value": "b"}, {"key": "asgard.job_id", "value": "j1"}])
        );
        let external = server.tracking.external().unwrap();
        let stamp = external.stamp_of(Kind::Run, RUN).await.unwrap().unwrap();
        assert_eq!(stamp.job_id, "j1");
        let runs = server.tracking.runs_of_job("j1").await.unwrap();
        assert_eq!(runs[0].job_id.as_deref(), Some("j1"));
        let metric = |fields: Value| {
            let mut body = json!({ "key": "m", "value": 1.5, "timestamp": 1 });
            body.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            body
        };
        let own = metric(json!({ "run_id": RUN, "run_uuid": RUN }));
        post(&server, job("j1"), "runs/log-metric", own).await.ok();
        let before = upstream.seen.count();
        for (caller, fields, status) in [
            ("j2", json!({ "run_id": RUN }), 403),
            ("j1", json!({ "run_id": OTHER }), 403),
            ("j1", json!({ "run_id": RUN, "run_uuid": OTHER }), 403),
            ("j1", json!({ "run_id": "", "run_uuid": OTHER }), 403),
            ("j1", json!({ "run_id": RUN, "runId": OTHER }), 400),
            ("j1", json!({}), 400),
        ] {
            let answer = post(
                &server,
                job(caller),
                "runs/log-metric",
                metric(fields.clone()),
            );
            assert_eq!(answer.await.status.as_u16(), status, "{caller} {fields}");
        }
        for (method, path) in [
            (Method::POST, "/api/2.0/mlflow/experiments/delete"),
            (Method::POST, "/api/2.0/mlflow/new-thing"),
            (Method::PUT, "/api/2.0/mlflow-artifacts/artifacts/1/x"),
            (Method::PATCH, "/api/2.0/mlflow/logged-models/m-1"),
        ] {
            let refused = server.send_as(job("j1"), method, path, "{}").await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        }
        let parts = format!("/api/2.0/mlflow-artifacts/mpu/create/1/{RUN}/artifacts");
        let refused = server.send_as(job("j1"), Method::POST, &parts, "{}").await;
        assert_eq!(refused.status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(
            upstream.seen.count(),
            before,
            "a refused request was passed on"
        );
        let ended = server.tracking.end_runs_of_job("j1", RunStatus::Killed);
        assert_eq!(ended.await.unwrap(), 1);
        assert_eq!(upstream.seen.last().body["status"], "KILLED");
    }
}

#[tokio::test]
async fn files_stream_both_ways_and_only_into_the_jobs_own_folder() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let made = post(
            &server,
            job("j1"),
            "runs/create",
            json!({"experiment_id": "1"}),
        );
        made.await.ok();
        let store = "/api/2.0/mlflow-artifacts/artifacts";
        let piece = Bytes::from(vec![1_u8; 1 << 20]);
        let pieces = (0..64).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let path = format!("{store}/1/{RUN}/artifacts/a%20b/big");
        let put = server.send_as(job("j1"), Method::PUT, &path, body).await;
        assert_eq!(put.status, StatusCode::OK);
        assert_eq!(upstream.seen.last().bytes, 64 << 20);
        assert!(upstream.seen.last().path.ends_with("/artifacts/a%20b/big"));
        let before = upstream.seen.count();
        for place in [
            format!("1/{OTHER}/artifacts/x"),
            format!("2/{RUN}/artifacts/x"),
            format!("1/{RUN}/artifacts/%2e%2e/%2e%2e/{OTHER}/artifacts/x"),
            format!("1/{RUN}/artifacts%2f..%2fx"),
        ] {
            let path = format!("{store}/{place}");
            let refused = server.send_as(job("j1"), Method::PUT, &path, "x").await;
            assert!(refused.status.is_client_error(), "{place}");
        }
        assert_eq!(upstream.seen.count(), before);
        let got = server.send(Method::GET, &path, "").await;
        assert_eq!(got.body.len(), 64 << 20);
        assert_eq!(
            got.header(header::CONTENT_SECURITY_POLICY),
            "sandbox; default-src 'none'"
        );
    }
}

/// An export of one span, as an OpenTelemetry SDK sends it.
fn export(trace_id: &str) -> Vec<u8> {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.map(|pair| byte(pair).unwrap()).collect()
    };
    let wrap = |tag: u8, content: Vec<u8>| {
        let length = u8::try_from(content.len()).unwrap();
        [vec![tag << 3 | 2, length], content].concat()
    };
    let span = [
        wrap(1, bytes(trace_id)),
        wrap(2, vec![1; 8]),
        wrap(5, b"call".to_vec()),
    ];
    wrap(1, wrap(2, wrap(2, span.concat())))
}

#[tokio::test]
async fn spans_of_a_job_are_passed_on_unless_their_trace_is_of_others() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let send = async |caller: &str, body: Vec<u8>, kind: &str| {
            let request = Request::builder()
                .method(Method::POST)
                .uri("/v1/traces")
                .header(header::CONTENT_TYPE, kind)
                .header("x-mlflow-experiment-id", "1")
                .body(Body::from(body))
                .unwrap();
            server.ask(job(caller), request).await.status
        };
        const PROTOBUF: &str = "application/x-protobuf";
        let sent = export(RUN);
        let length = sent.len();
        assert_eq!(send("j1", sent.clone(), PROTOBUF).await, StatusCode::OK);
        let asked = upstream.seen.last();
        assert_eq!(
            (asked.path.as_str(), asked.bytes),
            ("/base/v1/traces", length)
        );
        assert_eq!(send("j1", sent.clone(), PROTOBUF).await, StatusCode::OK);
        let before = upstream.seen.count();
        assert_eq!(
            send("j2", sent.clone(), PROTOBUF).await,
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            send("j1", sent, "text/plain").await,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(
            send("j1", b"no".into(), PROTOBUF).await,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(upstream.seen.count(), before);
        // It is there already, and no job of this server made it.
        assert_eq!(
            send("j1", export(OTHER), PROTOBUF).await,
            StatusCode::FORBIDDEN
        );
        assert_ne!(upstream.seen.last().path, "/base/v1/traces");
        // What people think of it is of the job too.
        let thought = format!("/api/3.0/mlflow/traces/tr-{RUN}/assessments");
        for (caller, status) in [("j1", StatusCode::OK), ("j2", StatusCode::FORBIDDEN)] {
            let told = server
                .send_as(job(caller), Method::POST, &thought, "{}")
                .await;
            assert_eq!(told.status, status);
        }
    }
}

#[tokio::test]
async fn a_job_changes_the_datasets_and_scorers_that_it_made() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let send = async |caller: &str, method: Method, path: &str, body: Value| {
            let path = format!("/api/3.0/mlflow/{path}");
            let sent = server.send_as(job(caller), method, &path, body.to_string());
            sent.await.status.as_u16()
        };
        let (post, delete) = (Method::POST, Method::DELETE);
        let named = json!({ "name": "d" });
        assert_eq!(
            send("j1", post.clone(), "datasets/create", named).await,
            200
        );
        let records = json!({ "records": "[]" });
        let scorer = json!({ "experiment_id": "1", "name": "s", "serialized_scorer": "{}" });
        assert_eq!(
            send("j1", post.clone(), "scorers/register", scorer.clone()).await,
            200
        );
        let one = json!({ "experiment_id": "1", "name": "s", "version": 3 });
        for (caller, method, path, body, status) in [
            ("j1", &post, "datasets/d-1/records", &records, 200),
            ("j2", &post, "datasets/d-1/records", &records, 403),
            ("j1", &post, "datasets/d-2/records", &records, 403),
            ("j1", &delete, "datasets/d-2", &json!({}), 403),
            ("j1", &delete, "scorers/delete", &one, 200),
            ("j2", &delete, "scorers/delete", &one, 403),
            // Version 2 is of somebody else.
            ("j1", &delete, "scorers/delete", &scorer, 403),
            ("j2", &post, "scorers/register", &scorer, 403),
            ("j1", &post, "label-schemas/create", &json!({}), 403),
        ] {
            let answered = send(caller, method.clone(), path, body.clone()).await;
            assert_eq!(answered, status, "{caller} {path} {body}");
        }
    }
}

#[tokio::test]
async fn a_job_tags_the_experiment_that_its_upload_named() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let tag = json!({ "experiment_id": "1", "key": "k", "value": "v" });
        for route in ["set-experiment-tag", "delete-experiment-tag"] {
            for (caller, status) in [("j1", 200), ("j2", 403)] {
                let path = format!("experiments/{route}");
                let answer = post(&server, job(caller), &path, tag.clone()).await;
                assert_eq!(answer.status.as_u16(), status, "{caller} {route}");
            }
        }
    }
}

#[tokio::test]
async fn a_job_deletes_the_traces_that_it_made() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let external = server.tracking.external().unwrap();
        for (id, job_id) in [("tr-a", "j1"), ("tr-b", "j1"), ("tr-c", "j2")] {
            let stamp = Stamp {
                id: id.to_owned(),
                job_id: job_id.to_owned(),
                artifact_uri: None,
            };
            external.stamp(Kind::Trace, &stamp).await.unwrap();
        }
        let route = "traces/delete-traces";
        let by = |more: Value| {
            let mut body = json!({ "experiment_id": "1" });
            let fields = body.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            body
        };
        let ids = json!({ "request_ids": ["tr-a", "tr-c", "tr-z"], "trace_ids": ["tr-c"] });
        post(&server, job("j1"), route, by(ids)).await.ok();
        let sent = json!({ "experiment_id": "1", "request_ids": ["tr-a"] });
        assert_eq!(upstream.seen.last().body, sent);
        let all = json!({ "max_timestamp_millis": i64::MAX.to_string(), "max_traces": 5 });
        post(&server, job("j1"), route, by(all)).await.ok();
        let sent = json!({ "experiment_id": "1", "request_ids": ["tr-a", "tr-b"] });
        assert_eq!(upstream.seen.last().body, sent);

        let before = upstream.seen.count();
        let others = json!({ "request_ids": ["tr-c"] });
        let none = post(&server, job("j1"), route, by(others)).await.ok();
        assert_eq!(none, json!({ "traces_deleted": 0 }));
        for wrong in [
            json!({}),
            json!({ "request_ids": ["tr-a"], "max_timestamp_millis": 1 }),
            json!({ "max_timestamp_millis": 1, "max_traces": 0 }),
            json!({ "max_timestamp_millis": "soon" }),
        ] {
            let refused = post(&server, job("j1"), route, by(wrong.clone())).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(upstream.seen.count(), before);
    }
}

#[tokio::test]
async fn a_job_says_of_nothing_of_others_that_its_run_made_it_or_that_their_run_did() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let body = json!({ "experiment_id": "1" });
        post(&server, job("j1"), "runs/create", body).await.ok();
        let before = upstream.seen.count();
        let models = json!({ "run_id": RUN, "models": [{ "model_id": "m-1" }] });
        let of = |run: &str| json!([{ "key": "mlflow.sourceRun", "value": run }]);
        let trace = json!({ "experiment_id": "1", "request_metadata": of(OTHER) });
        for (path, body) in [("runs/outputs", models), ("traces", trace)] {
            let refused = post(&server, job("j1"), path, body).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(upstream.seen.count(), before);
        let own = json!({ "experiment_id": "1", "request_metadata": of(RUN) });
        post(&server, job("j1"), "traces", own).await.ok();
        let none = json!({ "run_id": RUN, "models": [] });
        post(&server, job("j1"), "runs/outputs", none).await.ok();
    }
}

#[tokio::test]
async fn files_of_registered_versions_stay_for_whoever_does_not_manage_models() {
    let upstream = Upstream::start();
    let config = Config {
        uri: Some(upstream.url.clone()),
        ..Config::default()
    };
    let servers = crate::server::both_with(|db| {
        let external = External::of(&config, db.clone()).unwrap().unwrap();
        Tracking::at(external, db).with_registered(Arc::new(|question| {
            let key = question.place.key().to_owned();
            let version = "version 1 of model \"m\"".to_owned();
            Box::pin(async move { Ok(key.contains("/model").then_some(version)) })
        }))
    });
    for server in servers.await {
        let store = "/api/2.0/mlflow-artifacts";
        let own = "/ajax-api/2.0/mlflow/upload-artifact";
        let signed = "/api/2.0/mlflow/artifacts/presigned-upload-url";
        let body = |name: &str| json!({ "run_id": RUN, "path": name }).to_string();
        for (role, name, status) in [
            (Role::Runner, "other", StatusCode::OK),
            (Role::Runner, "model", StatusCode::FORBIDDEN),
            (Role::Editor, "model", StatusCode::OK),
        ] {
            let place = format!("1/{RUN}/artifacts/{name}/x");
            for (method, path, body) in [
                (
                    Method::PUT,
                    format!("{store}/artifacts/{place}"),
                    "x".to_owned(),
                ),
                (
                    Method::POST,
                    format!("{store}/mpu/create/{place}"),
                    "{}".to_owned(),
                ),
                (
                    Method::POST,
                    format!("{own}?run_uuid={RUN}&path={name}"),
                    "x".to_owned(),
                ),
                (Method::POST, signed.to_owned(), body(name)),
            ] {
                let caller = Identity::Key {
                    id: "k".to_owned(),
                    name: "k".to_owned(),
                    role,
                };
                let answer = server.send_as(caller, method, &path, body).await;
                assert_eq!(answer.status, status, "{role:?} {path} {:?}", answer.body);
            }
        }
        // What that server would read otherwise than it was asked about here.
        for (method, path) in [
            (
                Method::PUT,
                format!("{store}/artifacts/1/{RUN}/artifacts/model%252Fx"),
            ),
            (
                Method::POST,
                format!("{own}?run_uuid={RUN}&path=model%252Fx"),
            ),
            (
                Method::POST,
                format!("{own}?run_id=another&run_uuid={RUN}&path=other"),
            ),
        ] {
            let caller = Identity::Key {
                id: "k".to_owned(),
                name: "k".to_owned(),
                role: Role::Runner,
            };
            let answer = server.send_as(caller, method, &path, "x".to_owned()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
}

#[tokio::test]
async fn what_asgard_does_not_know_is_changed_by_administrators_alone() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let key = |role| Identity::Key {
            id: "k".to_owned(),
            name: "k".to_owned(),
            role,
        };
        let unknown = "/api/2.0/mlflow/users/create";
        let twin = "/ajax-api/3.0/mlflow/gateway/secrets/create";
        let gateway = "/ajax-api/2.0/mlflow/gateway-proxy";
        for (path, least) in [
            (unknown, Role::Admin),
            (twin, Role::Admin),
            (gateway, Role::Editor),
        ] {
            for role in Role::ALL {
                let may = role >= least;
                for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                    if path == gateway && method != Method::POST {
                        continue;
                    }
                    let before = upstream.seen.count();
                    let asked = server.send_as(key(role), method.clone(), path, "{}").await;
                    let status = match may {
                        true => StatusCode::OK,
                        false => StatusCode::FORBIDDEN,
                    };
                    assert_eq!(asked.status, status, "{role:?} {method} {path}");
                    assert_eq!(upstream.seen.count() - before, usize::from(may), "{path}");
                }
            }
            let refused = server.send_as(job("j1"), Method::POST, path, "{}").await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
}

#[tokio::test]
async fn a_file_that_comes_torn_is_an_error() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let read = async |folder: &str| {
            let file = Location::root()
                .join(folder)
                .unwrap()
                .join("MLmodel")
                .unwrap();
            server.tracking.artifacts().read(&file, 100).await
        };
        assert_eq!(read("1").await.unwrap(), "hello");
        assert!(read("torn").await.is_err());
        let missing = Location::root().join("1/other").unwrap();
        let missing = server.tracking.artifacts().read(&missing, 100).await;
        assert!(matches!(
            missing,
            Err(tracking::Error::ArtifactNotFound { .. })
        ));
    }
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_as_asgards_own() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let refused = server.get("experiments/get?experiment_id=9").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("tracking.token"), "{message}");
        assert!(!message.contains("pass@"), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_and_comes_back() {
    let mut upstream = Upstream::start();
    let servers = both(&upstream.url).await;
    let address = upstream.url.rsplit('@').next().unwrap();
    let address = address.trim_end_matches("/base").to_owned();
    for server in &servers {
        assert_eq!(
            server.tracking.counts().await.unwrap().active_experiments,
            2
        );
    }
    upstream.stop();
    while TcpStream::connect(&address).await.is_ok() {}
    for server in &servers {
        let asked = Instant::now();
        let gone = server.get(&format!("runs/get?run_id={RUN}")).await;
        assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE);
        let message = gone.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("cannot be reached") && message.contains("start that server"),
            "{message}"
        );
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
    // Taken, but nobody answers: as a stopped process.
    let listener = TcpListener::bind(&address).await.unwrap();
    for server in &servers {
        let asked = Instant::now();
        let error = server.tracking.counts().await.unwrap_err();
        assert!(matches!(error, tracking::Error::NoAnswer { .. }), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
    let router = Router::new().fallback(answer).with_state(Seen::default());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for server in &servers {
        assert_eq!(
            server.tracking.counts().await.unwrap().active_experiments,
            2
        );
    }
}
