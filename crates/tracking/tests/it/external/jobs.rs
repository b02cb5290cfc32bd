//! What jobs make and change on the external server.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tracking::{Kind, RunStatus, Stamp};

use crate::server::job;

use super::upstream::{OTHER, RUN, Upstream, both, post};

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
