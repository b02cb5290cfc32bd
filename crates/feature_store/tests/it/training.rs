//! `POST /mlops/models`: models out of feature views, as far as the script that is handed over.

use serde_json::{Value, json};

use crate::app::App;

const LABELS: &str = "\
customer_id,event_timestamp,churned
1,2025-11-03T00:00:00,0
2,2025-11-03T00:00:00,1
";

fn request() -> Value {
    json!({
        "model_name": "churn",
        "framework": "sklearn",
        "model_type": "random_forest_classifier",
        "data_source": {
            "feature_views": ["customer_features"],
            "label_table": {"schema": "gold", "table_name": "labels"},
            "target_column": "churned"
        },
        "hyperparameters": {"n_estimators": 10},
        "tags": {"team": "growth"}
    })
}

async fn ready(app: &App) {
    app.customers().await;
    let (status, body) = app.import("labels", LABELS).await;
    assert_eq!(status, 201, "{body}");
}

/// The request with one part of it, by its JSON pointer, replaced.
fn but(pointer: &str, value: Value) -> Value {
    let mut changed = request();
    *changed.pointer_mut(pointer).unwrap() = value;
    changed
}

#[tokio::test]
async fn a_model_of_feature_views_becomes_a_script_that_names_its_snapshots() {
    for app in App::both().await {
        ready(&app).await;
        let (status, body) = app.post("/mlops/models", request()).await;
        assert_eq!(status, 202, "{}: {body}", app.database);
        assert_eq!(body["features"], json!(["total_orders", "avg_order_value"]));
        assert_eq!(body["model_type"], "RandomForestClassifier");
        let upload = app.submitted().unwrap();
        assert_eq!(upload["script_content"], body["script"]);
        assert_eq!(upload["model_name"], "churn");
        assert_eq!(upload["requirements"], json!(["pandas", "scikit-learn"]));
        let snapshot = body["snapshots"]["customer_features"].as_i64().unwrap();
        let tags = &upload["tags"];
        assert_eq!(
            tags["feast.snapshot.customer_features"],
            snapshot.to_string()
        );
        assert_eq!(tags["team"], "growth");
        // The script asks what the route answers, at the snapshots of now.
        let script = body["script"].as_str().unwrap();
        assert!(
            script.contains(&format!("\"customer_features\": {snapshot}")),
            "{script}"
        );
        assert!(
            script.contains("RandomForestClassifier(**HYPERPARAMETERS)"),
            "{script}"
        );
    }
}

#[tokio::test]
async fn rows_may_stand_in_the_request_or_be_those_of_the_view() {
    let app = App::sqlite().await;
    ready(&app).await;
    let entities = json!({
        "customer_id": [1, 2],
        "event_timestamp": ["2025-11-03", "2025-11-03"],
        "churned": [0, 1],
        "other": ["x", "y"]
    });
    let source = json!({
        "feature_views": ["customer_features:total_orders"],
        "entities": entities,
        "target_column": "churned"
    });
    let (status, body) = app.post("/mlops/models", but("/data_source", source)).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(body["features"], json!(["total_orders"]));
    let source = json!({
        "feature_views": ["customer_features"],
        "target_column": "avg_order_value"
    });
    let mut asked = but("/data_source", source);
    asked["model_type"] = json!("Ridge");
    let (status, body) = app.post("/mlops/models", asked).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(body["features"], json!(["total_orders"]));
    assert_eq!(body["target_column"], "avg_order_value");
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_there_is() {
    let app = App::sqlite().await;
    ready(&app).await;
    let cases = [
        (
            but("/framework", json!("spark")),
            422,
            "sklearn, xgboost, lightgbm",
        ),
        (
            but("/model_type", json!("forest")),
            422,
            "RandomForestClassifier",
        ),
        (
            but("/data_source/feature_views", json!(["customers"])),
            404,
            "there are: customer_features",
        ),
        (
            but(
                "/data_source/feature_views",
                json!(["customer_features:nothing"]),
            ),
            400,
            "it has: total_orders, avg_order_value",
        ),
        (
            but("/data_source/feature_views", json!([])),
            422,
            "at least one",
        ),
        (
            but("/data_source/target_column", json!("churn")),
            422,
            "total_orders, avg_order_value",
        ),
        (
            but("/data_source/label_table/table_name", json!("label")),
            404,
            "there are: customer_aggregates, labels",
        ),
        (
            but("/hyperparameters", json!({"n; import os": 1})),
            422,
            "argument",
        ),
    ];
    for (asked, expected, named) in cases {
        let (status, body) = app.post("/mlops/models", asked).await;
        let message = body["message"].as_str().unwrap();
        assert_eq!(status, expected, "{message}");
        assert!(message.contains(named), "{message}");
    }
    for (field, value, named) in [
        ("metrics", json!(["rmse"]), "accuracy, precision"),
        ("split", json!({"test_size": 1}), "less than 1"),
        ("split", json!({"method": "odd"}), "random"),
        (
            "snapshots",
            json!({"customer_features": 1}),
            "its newest is",
        ),
        ("snapshots", json!({"other": 1}), "not read"),
    ] {
        let mut asked = request();
        asked[field] = value;
        let (status, body) = app.post("/mlops/models", asked).await;
        assert!(status.is_client_error(), "{body}");
        assert!(body["message"].as_str().unwrap().contains(named), "{body}");
    }
    let mut asked = request();
    asked["data_source"]["label_table"]["timestamp_field"] = json!("churned");
    let (status, body) = app.post("/mlops/models", asked).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("event_timestamp"),
        "{body}"
    );
    let many: Vec<i64> = (0..50_000).collect();
    let entities = json!({
        "customer_id": many,
        "event_timestamp": vec!["2025-11-03"; many.len()],
        "churned": many
    });
    let source = json!({
        "feature_views": ["customer_features"],
        "entities": entities,
        "target_column": "churned"
    });
    let (status, body) = app.post("/mlops/models", but("/data_source", source)).await;
    assert_eq!(status, 422, "{body}");
    assert!(
        body["message"].as_str().unwrap().contains("label_table"),
        "{body}"
    );
    assert_eq!(app.submitted(), None);
}

#[tokio::test]
async fn entity_rows_may_come_from_a_table() {
    let app = App::sqlite().await;
    ready(&app).await;
    let read = |table: Value| json!({"features": ["customer_features:total_orders"], "entity_table": table});
    let table = json!({"schema": "gold", "table_name": "labels"});
    let (status, body) = app.post("/feast/historical", read(table)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"]["total_orders"], json!([4, 1]));
    assert_eq!(body["data"]["churned"], json!([0, 1]));
    let wrong = json!({"schema": "gold", "table_name": "labels", "columns": ["churn"]});
    let (status, body) = app.post("/feast/historical", read(wrong)).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["message"].as_str().unwrap().contains("churned"),
        "{body}"
    );
}
