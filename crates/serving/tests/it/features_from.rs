//! Columns that come from the feature store, for both engines.

use axum::http::StatusCode;
use serde_json::{Value, json};
use serving::Config;

use crate::setup::{Stage, customer};

async fn ask(stage: &Stage, model: &str, inputs: Value, from: Value) -> (StatusCode, Value) {
    let mut body = json!({"model_name": model, "inputs": inputs, "return_probabilities": true});
    if !from.is_null() {
        body["features_from"] = from;
    }
    stage.post(body.to_string()).await
}

/// What the feature store has of customers, sent along.
fn columns(ids: &[f64]) -> Value {
    let column = |feature| {
        let values: Vec<f64> = ids.iter().map(|id| customer(*id, feature)).collect();
        (format!("feature_{feature}"), json!(values))
    };
    Value::Object((0..20).map(column).collect())
}

#[tokio::test]
async fn columns_come_from_the_feature_store_by_the_entity_key() {
    let stage = Stage::new(Config::default()).await;
    for (model, engine) in [("forest", "native"), ("logistic", "python")] {
        stage.register(model, model).await;
        let keys = json!({"customer_id": [2, 1]});
        let (status, answer) = ask(&stage, model, keys, json!("customers")).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        assert_eq!(answer["engine"], engine);
        let columns = columns(&[2.0, 1.0]);
        let (status, expected) = ask(&stage, model, columns, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{expected:#}");
        assert_eq!(answer["predictions"], expected["predictions"], "{model}");
        assert_eq!(
            answer["probabilities"], expected["probabilities"],
            "{model}"
        );
        // What the request itself says goes before what is known.
        let mixed = json!({"customer_id": [2], "feature_3": [100.0]});
        let (_, answer) = ask(&stage, model, mixed, json!(["customers"])).await;
        let mut columns = self::columns(&[2.0]);
        columns["feature_3"] = json!([100.0]);
        let (_, expected) = ask(&stage, model, columns, Value::Null).await;
        assert_eq!(
            answer["probabilities"], expected["probabilities"],
            "{model}"
        );
    }
}

#[tokio::test]
async fn entities_and_views_that_are_unknown_are_told() {
    let stage = Stage::new(Config::default()).await;
    stage.register("forest", "forest").await;
    let keys = || json!({"customer_id": [1, 9]});
    let (status, answer) = ask(&stage, "forest", keys(), json!("customers")).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    assert!(
        answer["notes"]
            .to_string()
            .contains("customer_id 9 is unknown"),
        "{answer:#}"
    );
    let (status, answer) = ask(&stage, "forest", keys(), json!("clients")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer:#}");
    let (status, answer) = ask(&stage, "forest", keys(), Value::Null).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
}
