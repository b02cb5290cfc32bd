//! Every kind of model answers what Python itself answers, to the bit.

use axum::http::StatusCode;
use serde_json::Value;
use serving::Config;

use crate::setup::Stage;

/// Asks a trained model by its route and compares with what Python wrote down; gives the answer.
async fn same_as_python(model: &str) -> Value {
    let stage = Stage::new(Config::default()).await;
    stage.register(model, model).await;
    let (inputs, expected) = (stage.inputs(model), stage.answers(model));
    let (status, answer) = stage.ask(model, &inputs).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    assert_eq!(answer["predictions"], expected["predictions"], "{model}");
    assert_eq!(
        answer["probabilities"], expected["probabilities"],
        "{model}"
    );
    assert_eq!(answer["model_version"], "1");
    // Once more, now that it is loaded: nothing is left of the first call.
    let (_, again) = stage.ask(model, &inputs).await;
    assert_eq!(again["predictions"], expected["predictions"], "{model}");
    answer
}

fn notes(answer: &Value) -> String {
    answer["notes"].to_string()
}

#[tokio::test]
async fn a_random_forest_with_a_signature() {
    let answer = same_as_python("forest").await;
    assert!(notes(&answer).contains("loaded for this request"));
}

#[tokio::test]
async fn an_iris_model_trained_with_numpy_and_asked_by_names() {
    for model in ["iris", "iris_tensor"] {
        let answer = same_as_python(model).await;
        assert!(
            notes(&answer).contains("in the order they were sent"),
            "{answer:#}"
        );
    }
}

#[tokio::test]
async fn a_regressor_has_no_probabilities_and_says_so() {
    let answer = same_as_python("regressor").await;
    assert!(answer["probabilities"].is_null());
    assert!(notes(&answer).contains("RandomForestRegressor has no predict_proba"));
}

#[tokio::test]
async fn a_pipeline_over_text_truths_and_missing_numbers() {
    same_as_python("mixed").await;
}

#[tokio::test]
async fn a_linear_model_and_a_machine_without_probabilities() {
    same_as_python("logistic").await;
    same_as_python("svc").await;
}

#[tokio::test]
async fn a_model_of_texts() {
    same_as_python("words").await;
}

#[tokio::test]
async fn xgboost_by_both_interfaces() {
    same_as_python("xgboost").await;
    same_as_python("xgboost_iris").await;
    same_as_python("xgboost_booster").await;
    same_as_python("xgboost_regressor").await;
}

#[tokio::test]
async fn lightgbm_by_both_interfaces() {
    same_as_python("lightgbm").await;
    same_as_python("lightgbm_iris").await;
    same_as_python("lightgbm_booster").await;
}

#[tokio::test]
async fn a_model_of_ones_own() {
    let answer = same_as_python("custom").await;
    assert!(answer["probabilities"].is_null());
}

#[tokio::test]
async fn a_lone_pickle() {
    same_as_python("pickle").await;
}
