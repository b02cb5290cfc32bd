//! The shapes of errors, and of the status.

use axum::body::Body;
use serde_json::Value;

use crate::site::{Site, get, request};

fn named(method: &str, path: &str) -> axum::http::Request<Body> {
    let named = request(method, path).header("x-request-id", "r-1");
    named.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn errors_have_one_shape() {
    let site = Site::new().await;
    insta::assert_json_snapshot!("no_route", site.send(named("GET", "/nope")).await.json());
    insta::assert_json_snapshot!(
        "wrong_method",
        site.send(named("DELETE", "/health")).await.json()
    );
    insta::assert_json_snapshot!(
        "no_key",
        site.send(named("GET", "/mlops/status")).await.json()
    );
    let no_json = site.send_locally(named("POST", "/mlops/keys")).await;
    insta::assert_json_snapshot!("no_json", no_json.json());
    assert_eq!(no_json.headers["x-request-id"], "r-1");
}

#[tokio::test]
async fn doubled_slashes_lead_to_the_address_without_them() {
    let site = Site::new().await;
    for (doubled, single) in [
        ("//health", "/health"),
        (
            "//api//2.0/mlflow/runs/get?run_id=a//b",
            "/api/2.0/mlflow/runs/get?run_id=a//b",
        ),
        ("//evil.example/x", "/evil.example/x"),
    ] {
        let answer = site.send(named("GET", doubled)).await;
        assert_eq!(answer.status, 308, "{doubled}");
        assert_eq!(answer.headers["location"], single);
    }
    assert_eq!(site.send(named("GET", "/nope")).await.status, 404);
}

#[tokio::test]
async fn errors_of_mlflow_routes_have_mlflows_shape() {
    let site = Site::new().await;
    let path = "/api/2.0/mlflow/nothing";
    insta::assert_json_snapshot!(
        "mlflow_no_route",
        site.send(named("GET", path)).await.json()
    );
    let path = "/api/2.0/mlflow-artifacts/artifacts";
    insta::assert_json_snapshot!("mlflow_no_key", site.send(named("GET", path)).await.json());
}

#[tokio::test]
async fn the_status_has_all_its_fields() {
    let site = Site::new().await;
    let status = site.send_locally(get("/mlops/status")).await.json();
    for field in [
        "mlflow_tracking_uri",
        "mlflow_available",
        "feast_store_available",
        "registered_models",
        "active_experiments",
        "feature_views",
        "timestamp",
        "version",
        "uptime_seconds",
        "queue_depth",
        "storage",
    ] {
        assert_ne!(status[field], Value::Null, "{field}");
    }
    assert_eq!(status["mlflow_tracking_uri"], "http://127.0.0.1:8000");
    assert!(status["timestamp"].as_str().unwrap().ends_with('Z'));
}
