//! MLflow's GraphQL, as its page asks it.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use web::Identity;
use web::testing::Answer;

use crate::site::{Site, request};

async fn post(site: &Site, path: &str, body: Value) -> Answer {
    let sent = request("POST", path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    site.send_locally(sent.unwrap()).await
}

async fn rest(site: &Site, path: &str, body: Value) -> Value {
    let answer = post(site, &format!("/api/2.0/mlflow/{path}"), body).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
    answer.json()
}

async fn query(site: &Site, query: &str, input: Value) -> Value {
    let body = json!({"query": query, "operationName": "Q", "variables": {"data": input}});
    let answer = post(site, "/graphql", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()
}

async fn run_with_a_version(site: &Site) -> String {
    let run = rest(
        site,
        "runs/create",
        json!({"experiment_id": "0", "start_time": 7}),
    )
    .await;
    let id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    for (value, step) in [(json!(0.5), 1), (json!("NaN"), 2)] {
        let point = json!({"run_id": id, "key": "m", "value": value, "timestamp": 9, "step": step});
        rest(site, "runs/log-metric", point).await;
    }
    rest(site, "registered-models/create", json!({"name": "model"})).await;
    let source = format!("runs:/{id}/model");
    let version = json!({"name": "model", "source": source, "run_id": id});
    rest(site, "model-versions/create", version).await;
    id
}

const RUN: &str = "query Q($data: MlflowGetRunInput!) @component(name: \"x\") {
    mlflowGetRun(input: $data) { apiError { code } run {
        info { runUuid status startTime endTime __typename }
        experiment { name lifecycleStage tags { key value } }
        modelVersions { name version source }
        data { metrics { key value step timestamp } params { key } }
        inputs { datasetInputs { dataset { name } } } outputs { modelOutputs { modelId } } } } }";

#[tokio::test]
async fn a_run_is_told_with_its_experiment_and_versions() {
    let site = Site::new().await;
    let id = run_with_a_version(&site).await;
    let answer = query(&site, RUN, json!({"runId": id})).await;
    assert_eq!(answer["errors"], Value::Null, "{answer}");
    let run = &answer["data"]["mlflowGetRun"]["run"];
    assert_eq!(run["info"]["startTime"], "7");
    assert_eq!(run["info"]["__typename"], "MlflowRunInfo");
    assert_eq!(run["experiment"]["name"], "Default");
    assert_eq!(run["modelVersions"][0]["version"], "1");
    let metrics = json!([{"key": "m", "value": null, "step": "2", "timestamp": "9"}]);
    assert_eq!(run["data"]["metrics"], metrics);
    assert_eq!(run["outputs"]["modelOutputs"], json!([]));
    assert_eq!(answer["data"]["mlflowGetRun"]["apiError"], Value::Null);
}

#[tokio::test]
async fn the_other_operations_of_the_page_are_answered() {
    let site = Site::new().await;
    let id = run_with_a_version(&site).await;
    let text = "query Q($data: I!) { mlflowGetExperiment(input: $data) { experiment {
        experimentId creationTime effectiveTraceArchivalRetention } } }";
    let answer = query(&site, text, json!({"experimentId": "0"})).await;
    let experiment = &answer["data"]["mlflowGetExperiment"]["experiment"];
    assert!(experiment["creationTime"].is_string(), "{answer}");
    assert_eq!(experiment["effectiveTraceArchivalRetention"], "");

    let text = "query Q($data: I!) { mlflowGetMetricHistoryBulkInterval(input: $data) {
        __typename metrics { runId step value } } }";
    let input = json!({"runIds": [id], "metricKey": "m", "startStep": null, "maxResults": 320});
    let answer = query(&site, text, input).await;
    let points = json!([
        {"runId": id, "step": "1", "value": 0.5}, {"runId": id, "step": "2", "value": null}
    ]);
    assert_eq!(
        answer["data"]["mlflowGetMetricHistoryBulkInterval"]["metrics"],
        points
    );

    let text = "query Q($data: I!) { mlflowSearchRuns(input: $data) { runs {
        info { runId } modelVersions { name } experiment { name } } } }";
    let input = json!({"experimentIds": ["0"], "filter": "metrics.m = 1"});
    let answer = query(&site, text, input).await;
    assert_eq!(answer["data"]["mlflowSearchRuns"]["runs"], json!([]));
    let answer = query(&site, text, json!({"experimentIds": ["0"]})).await;
    let run = &answer["data"]["mlflowSearchRuns"]["runs"][0];
    assert_eq!(run["modelVersions"], json!([{"name": "model"}]), "{answer}");
}

#[tokio::test]
async fn mistakes_are_told_in_the_answer_and_limits_hold() {
    let site = Site::new().await;
    let answer = query(&site, RUN, json!({"runId": "0".repeat(32)})).await;
    assert_eq!(answer["data"]["mlflowGetRun"], Value::Null);
    let told = answer["errors"][0].as_str().unwrap();
    assert!(told.contains("not found"), "{told}");
    for (text, said) in [
        (
            format!("query Q {{ {} }}", "test { output } ".repeat(11)),
            "root fields",
        ),
        (
            "query Q ".to_owned() + &"{ a".repeat(20_000),
            "maximum depth",
        ),
        ("query Q { secrets }".to_owned(), "Cannot query field"),
    ] {
        let answer = query(&site, &text, json!({})).await;
        assert_eq!(answer["data"], Value::Null);
        assert!(
            answer["errors"][0].as_str().unwrap().contains(said),
            "{answer}"
        );
    }
    let answer = post(&site, "/graphql", json!([{"query": "{ test { output } }"}])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.json()["error_code"].is_string());
}

#[tokio::test]
async fn nobody_asks_without_a_key() {
    let site = Site::new().await;
    let body = || Body::from(json!({"query": "{ test { output } }"}).to_string());
    for path in ["/graphql", "/mlflow/graphql"] {
        let sent = request("POST", path).header("content-type", "application/json");
        let sent = sent.body(body()).unwrap();
        let answer = site.send_as(Identity::Anonymous, sent).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.json()["error_code"], "UNAUTHENTICATED");
    }
}
