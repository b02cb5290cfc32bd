//! Searches for traces by what people and programs think of them, by patterns, and their orders.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use web::Identity;
use web::testing::Answer;

use crate::server::{Server, both};

async fn call(server: &Server, path: &str, body: Value) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/api/3.0/mlflow/traces{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()));
    server.ask(Identity::Local, request.unwrap()).await
}

/// A trace of the second `number` of its day.
async fn make(server: &Server, number: u8, experiment: &str, name: &str, metadata: Value) {
    let info = json!({"trace": {"trace_info": {
        "trace_id": format!("tr-{number}"),
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
        "request_time": format!("2025-01-01T00:00:0{number}Z"),
        "execution_duration": "0.1s",
        "state": "OK",
        "trace_metadata": metadata,
        "tags": {"mlflow.traceName": name},
    }}});
    call(server, "", info).await.ok();
}

async fn judge(server: &Server, number: u8, name: &str, what: Value) -> Value {
    let mut assessment = what;
    assessment["assessment_name"] = name.into();
    let path = format!("/tr-{number}/assessments");
    call(server, &path, json!({"assessment": assessment}))
        .await
        .ok()
}

async fn search(server: &Server, experiments: &[&str], filter: &str, order: Value) -> Answer {
    let places: Vec<Value> = experiments
        .iter()
        .map(|id| json!({"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}}))
        .collect();
    let body = json!({"locations": places, "filter": filter, "order_by": order});
    call(server, "/search", body).await
}

/// The numbers of the traces that are found, in their order.
async fn found(server: &Server, experiments: &[&str], filter: &str, order: Value) -> Vec<u8> {
    let answer = search(server, experiments, filter, order).await.ok();
    let traces = answer["traces"].as_array().cloned().unwrap_or_default();
    let number = |trace: &Value| {
        let id = trace["trace_id"].as_str().unwrap();
        id["tr-".len()..].parse().unwrap()
    };
    traces.iter().map(number).collect()
}

#[tokio::test]
async fn traces_are_found_by_their_assessments() {
    for server in both().await {
        for number in 1..=5 {
            let session = if number >= 4 {
                json!({"mlflow.trace.session": "s"})
            } else {
                json!({})
            };
            make(&server, number, "0", "t", session).await;
        }
        judge(&server, 1, "score", json!({"feedback": {"value": 0.9}})).await;
        judge(&server, 2, "score", json!({"feedback": {"value": 10}})).await;
        judge(&server, 3, "score", json!({"feedback": {"value": "9"}})).await;
        judge(&server, 1, "right", json!({"feedback": {"value": true}})).await;
        judge(
            &server,
            2,
            "right",
            json!({"feedback": {"value": "Yes, \"so\" it is"}}),
        )
        .await;
        judge(
            &server,
            3,
            "right",
            json!({"feedback": {"error": {"error_code": "E"}}}),
        )
        .await;
        judge(
            &server,
            1,
            "answer",
            json!({"expectation": {"value": "Paris"}}),
        )
        .await;
        let list = json!({"expectation": {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": "[1, 2]"}}});
        judge(&server, 2, "answer", list).await;
        let whole =
            json!({"feedback": {"value": "calm"}, "metadata": {"mlflow.trace.session": "s"}});
        judge(&server, 4, "mood", whole).await;
        judge(&server, 4, "alone", json!({"feedback": {"value": "calm"}})).await;
        judge(
            &server,
            3,
            "ISSUE-7",
            json!({"issue": {"issue_name": "slow"}}),
        )
        .await;
        let old = judge(&server, 5, "score", json!({"feedback": {"value": 100}})).await;
        let newer =
            json!({"feedback": {"value": 1}, "overrides": old["assessment"]["assessment_id"]});
        judge(&server, 5, "score", newer).await;
        for (filter, traces) in [
            ("feedback.score > 0.8", &[1, 2, 5][..]),
            ("feedback.score >= 1", &[2, 5]),
            ("feedback.score < 1", &[1]),
            ("feedback.score > 50", &[]),
            ("feedback.score = '9'", &[3]),
            ("feedback.score = '10'", &[2]),
            ("feedback.score != '10'", &[1, 3, 5]),
            ("feedback.right = 'true'", &[1]),
            ("feedback.right LIKE 'Yes%'", &[2]),
            ("feedback.right ILIKE 'yes%'", &[2]),
            ("feedback.right RLIKE '^Y.s, '", &[2]),
            ("feedback.right LIKE '% \"so\" %'", &[2]),
            ("feedback.right IS NOT NULL", &[1, 2, 3]),
            ("feedback.right IS NULL", &[4, 5]),
            ("feedback.right IS NOT NULL AND feedback.score > 5", &[2]),
            ("expectation.answer = 'Paris'", &[1]),
            ("expectation.answer = '[1, 2]'", &[2]),
            ("feedback.answer IS NOT NULL", &[]),
            ("feedback.`mood` = 'calm'", &[4, 5]),
            ("feedback.mood IS NULL", &[1, 2, 3]),
            ("feedback.alone = 'calm'", &[4]),
            ("issue.id = 'ISSUE-7'", &[3]),
            ("issue.id = 'score'", &[]),
        ] {
            let by_time = json!(["timestamp_ms"]);
            let numbers = found(&server, &["0"], filter, by_time).await;
            assert_eq!(numbers, traces, "{} {filter}", server.name);
        }
        for wrong in [
            "feedback.score > 'x'",
            "feedback.score = 1",
            "feedback.score IN ('1')",
            "feedback. = 'x'",
            "issue.id LIKE 'x'",
            "issue.name = 'x'",
            "assessment.score = 'x'",
        ] {
            let refused = search(&server, &["0"], wrong, json!([])).await;
            assert_eq!(refused.status.as_u16(), 400, "{wrong}: {:?}", refused.body);
        }
    }
}

#[tokio::test]
async fn texts_of_traces_match_patterns() {
    for server in both().await {
        make(
            &server,
            1,
            "0",
            "chat of Ada",
            json!({"user": "ada", "lines": "first\nsecond"}),
        )
        .await;
        make(&server, 2, "0", "search", json!({"user": "bob"})).await;
        for (filter, traces) in [
            ("trace.name RLIKE '^chat'", &[1][..]),
            ("trace.name RLIKE 'a'", &[2, 1]),
            ("trace.name RLIKE '\\bof\\b'", &[1]),
            ("trace.name RLIKE '(?i)ADA'", &[1]),
            ("metadata.lines RLIKE 'first.second'", &[]),
            ("tags.`mlflow.traceName` RLIKE '^(chat|search)'", &[2, 1]),
            ("metadata.user RLIKE 'a$'", &[1]),
            ("metadata.none RLIKE '.'", &[]),
            ("request_id RLIKE '[2-9]$'", &[2]),
        ] {
            let numbers = found(&server, &["0"], filter, json!([])).await;
            assert_eq!(numbers, traces, "{} {filter}", server.name);
        }
        // The last is a pattern for the one library and none for PostgreSQL's.
        for wrong in [
            "trace.name RLIKE '('",
            "trace.name RLIKE 1",
            "trace.name RLIKE 'a**'",
        ] {
            let refused = search(&server, &["0"], wrong, json!([])).await;
            let on_sqlite = wrong.contains("**") && server.name.starts_with("sqlite");
            let expected = if on_sqlite { 200 } else { 400 };
            assert_eq!(refused.status.as_u16(), expected, "{} {wrong}", server.name);
        }
    }
}

#[tokio::test]
async fn traces_are_ordered_by_name_run_and_experiment() {
    for server in both().await {
        let made = server
            .post("experiments/create", json!({"name": "other"}))
            .await;
        let other = made.ok()["experiment_id"].as_str().unwrap().to_owned();
        make(&server, 1, "0", "b", json!({"mlflow.sourceRun": "r2"})).await;
        make(&server, 2, &other, "c", json!({"mlflow.sourceRun": "r1"})).await;
        make(&server, 3, "0", "a", json!({})).await;
        for (order, traces) in [
            (json!(["name"]), [3, 1, 2]),
            (json!(["trace.name DESC"]), [2, 1, 3]),
            // What has none comes last, either way.
            (json!(["run_id"]), [2, 1, 3]),
            (json!(["run_id DESC"]), [1, 2, 3]),
            (json!(["experiment_id DESC", "name"]), [2, 3, 1]),
            (json!(["experiment_id"]), [3, 1, 2]),
        ] {
            let shown = order.to_string();
            let numbers = found(&server, &["0", &other], "", order).await;
            assert_eq!(numbers, traces, "{} {shown}", server.name);
        }
        // Clients ask for what they found once more, with its spans.
        let path =
            "/api/3.0/mlflow/traces/batchGetInfos?trace_ids=tr-2&trace_ids=tr-3&trace_ids=tr-1";
        let answer = server.send(Method::GET, path, Body::empty()).await.ok();
        let infos = answer["trace_infos"].as_array().unwrap().iter();
        let ids: Vec<_> = infos
            .map(|info| info["trace_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["tr-2", "tr-3", "tr-1"], "{}", server.name);
        let refused = search(&server, &["0"], "", json!(["color"])).await;
        assert_eq!(refused.status.as_u16(), 400);
    }
}
