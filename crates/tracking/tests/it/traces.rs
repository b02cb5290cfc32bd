//! Traces.

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use web::Identity;
use web::testing::Answer;

use crate::server::{Server, both, job};

async fn v3(server: &Server, caller: Identity, method: Method, path: &str, body: Value) -> Answer {
    let request = axum::http::Request::builder()
        .method(method)
        .uri(format!("/api/3.0/mlflow/traces{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    server.ask(caller, request).await
}

fn info(id: &str, time: &str) -> Value {
    json!({"trace": {"trace_info": {
        "trace_id": id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}},
        "request_preview": "{}",
        "request_time": time,
        "execution_duration": "0.250s",
        "state": "OK",
        "trace_metadata": {"mlflow.sourceRun": "r1"},
        "tags": {"mlflow.traceName": id},
        "assessments": [],
    }}})
}

#[tokio::test]
async fn a_trace_is_written_and_read_back() {
    for server in both().await {
        let body = info("tr-1", "2025-10-23T10:00:00.123Z");
        let made = v3(&server, Identity::Local, Method::POST, "", body)
            .await
            .ok();
        let got = server
            .send(Method::GET, "/api/3.0/mlflow/traces/tr-1", Body::empty())
            .await
            .ok();
        assert_eq!(made, got, "{}", server.name);
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(got["trace"]["trace_info"], @r#"
            {
              "execution_duration": "0.250s",
              "request_preview": "{}",
              "request_time": "2025-10-23T10:00:00.123Z",
              "state": "OK",
              "tags": {
                "mlflow.artifactLocation": "mlflow-artifacts:/0/traces/tr-1/artifacts",
                "mlflow.traceName": "tr-1"
              },
              "trace_id": "tr-1",
              "trace_location": {
                "mlflow_experiment": {
                  "experiment_id": "0"
                },
                "type": "MLFLOW_EXPERIMENT"
              },
              "trace_metadata": {
                "mlflow.sourceRun": "r1"
              }
            }
            "#);
        }
        let old = server.get("traces/tr-1/info").await.ok();
        assert_eq!(old["trace_info"]["timestamp_ms"], 1_761_213_600_123_i64);
        assert_eq!(old["trace_info"]["status"], "OK");
        let missing = server
            .send(Method::GET, "/api/3.0/mlflow/traces/tr-9", Body::empty())
            .await;
        assert_eq!(missing.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
        assert!(
            missing.json()["message"]
                .as_str()
                .unwrap()
                .contains("Trace with ID 'tr-9' not found")
        );
    }
}

#[tokio::test]
async fn a_client_of_2_x_starts_and_ends_a_trace() {
    for server in both().await {
        let start = json!({"experiment_id": "0", "timestamp_ms": "1000", "tags": [{"key": "a", "value": "1"}]});
        let started = server.post("traces", start).await.ok();
        let id = started["trace_info"]["request_id"].as_str().unwrap();
        assert_eq!(started["trace_info"]["status"], "IN_PROGRESS");
        let end = json!({"request_id": id, "timestamp_ms": 1250, "status": "ERROR", "request_metadata": [{"key": "m", "value": "x"}]});
        server.patch(&format!("traces/{id}"), end).await.ok();
        let found = server
            .get("traces?experiment_ids=0&filter=status+%3D+%27ERROR%27&max_results=5")
            .await
            .ok();
        let trace = &found["traces"][0];
        assert_eq!(
            (&trace["execution_time_ms"], &trace["status"]),
            (&json!(250), &json!("ERROR"))
        );
        assert_eq!(
            trace["request_metadata"],
            json!([{"key": "m", "value": "x"}])
        );
        assert_eq!(trace["tags"][0], json!({"key": "a", "value": "1"}));
    }
}

#[tokio::test]
async fn traces_are_searched_tagged_and_deleted() {
    for server in both().await {
        for (id, time) in [
            ("tr-1", "2025-01-01T00:00:00Z"),
            ("tr-2", "2025-01-02T00:00:00Z"),
            ("tr-3", "2025-01-03T00:00:00Z"),
        ] {
            v3(&server, Identity::Local, Method::POST, "", info(id, time))
                .await
                .ok();
        }
        let search = |filter: &str, order: Value| {
            let place =
                json!([{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]);
            json!({"locations": place, "filter": filter, "order_by": order, "max_results": 2})
        };
        for (filter, order, expected) in [
            ("", json!([]), vec!["tr-3", "tr-2"]),
            ("", json!(["timestamp_ms ASC"]), vec!["tr-1", "tr-2"]),
            (
                "trace.name = 'tr-2' AND run_id = 'r1'",
                json!([]),
                vec!["tr-2"],
            ),
            (
                "request_id IN ('tr-1') AND execution_time_ms >= 250",
                json!([]),
                vec!["tr-1"],
            ),
            ("attributes.status = 'ERROR'", json!([]), vec![]),
            (
                "timestamp_ms > 1735689600000 AND tags.`mlflow.traceName` LIKE 'tr%'",
                json!(["timestamp"]),
                vec!["tr-2", "tr-3"],
            ),
        ] {
            let found = v3(
                &server,
                Identity::Local,
                Method::POST,
                "/search",
                search(filter, order),
            )
            .await
            .ok();
            let list = found["traces"].as_array().cloned().unwrap_or_default();
            let ids: Vec<&str> = list
                .iter()
                .map(|t| t["trace_id"].as_str().unwrap())
                .collect();
            assert_eq!(ids, expected, "{filter}");
        }
        let wrong = v3(
            &server,
            Identity::Local,
            Method::POST,
            "/search",
            search("nothing = 'x'", json!([])),
        )
        .await;
        assert_eq!(wrong.error().0, 400);

        let tag = json!({"key": "k", "value": "v"});
        v3(
            &server,
            Identity::Local,
            Method::PATCH,
            "/tr-1/tags",
            tag.clone(),
        )
        .await
        .ok();
        v3(
            &server,
            Identity::Local,
            Method::DELETE,
            "/tr-1/tags",
            tag.clone(),
        )
        .await
        .ok();
        assert_eq!(
            v3(&server, Identity::Local, Method::DELETE, "/tr-1/tags", tag)
                .await
                .error()
                .0,
            404
        );
        let infos = server
            .send(
                Method::GET,
                "/api/3.0/mlflow/traces/batchGetInfos?trace_ids=tr-1&trace_ids=x",
                Body::empty(),
            )
            .await
            .ok();
        assert_eq!(infos["trace_infos"].as_array().unwrap().len(), 1);

        let neither = server
            .post("traces/delete-traces", json!({"experiment_id": "0"}))
            .await;
        assert_eq!(neither.error().0, 400);
        let one = json!({"experiment_id": "0", "max_timestamp_millis": 1_800_000_000_000_i64, "max_traces": 1});
        assert_eq!(
            server.post("traces/delete-traces", one).await.ok()["traces_deleted"],
            1
        );
        let ids = json!({"experiment_id": "0", "request_ids": ["tr-1", "tr-2"]});
        assert_eq!(
            server.post("traces/delete-traces", ids).await.ok()["traces_deleted"],
            1
        );
    }
}

#[tokio::test]
async fn a_job_writes_only_its_own_traces() {
    for server in both().await {
        let body = info("tr-1", "2025-01-01T00:00:00Z");
        v3(&server, job("j1"), Method::POST, "", body.clone())
            .await
            .ok();
        let tag = json!({"key": "k", "value": "v"});
        assert_eq!(
            v3(&server, job("j2"), Method::POST, "", body.clone())
                .await
                .error()
                .0,
            403
        );
        assert_eq!(
            v3(&server, job("j2"), Method::PATCH, "/tr-1/tags", tag.clone())
                .await
                .error()
                .0,
            403
        );
        v3(&server, job("j1"), Method::PATCH, "/tr-1/tags", tag)
            .await
            .ok();
        let path = "/api/2.0/mlflow-artifacts/artifacts/0/traces/tr-1/artifacts/traces.json";
        let refused = server.send_as(job("j2"), Method::PUT, path, "{}").await;
        assert_eq!(refused.error().0, 403);
        let stored = server.send_as(job("j1"), Method::PUT, path, "{}").await;
        assert_eq!(stored.status, 200);
        let ids = json!({"experiment_id": "0", "request_ids": ["tr-1"]});
        let gone = server
            .json_as(job("j2"), Method::POST, "traces/delete-traces", ids)
            .await
            .ok();
        assert_eq!(gone["traces_deleted"], 0);
    }
}
