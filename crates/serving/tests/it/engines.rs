//! Which models are answered without Python, and that it makes no difference.

use axum::http::StatusCode;
use serving::Config;

use crate::setup::Stage;

async fn engine(stage: &Stage, model: &str) -> String {
    let (status, answer) = stage.ask(model, &stage.inputs(model)).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    let expected = stage.answers(model);
    assert_eq!(answer["predictions"], expected["predictions"], "{model}");
    assert_eq!(
        answer["probabilities"], expected["probabilities"],
        "{model}"
    );
    answer["engine"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn forests_are_walked_natively() {
    let stage = Stage::new(Config::default()).await;
    for model in ["forest", "iris", "iris_tensor", "regressor", "pickle"] {
        stage.register(model, model).await;
        assert_eq!(engine(&stage, model).await, "native", "{model}");
    }
}

#[tokio::test]
async fn boosted_trees_are_walked_natively() {
    let stage = Stage::new(Config::default()).await;
    for model in [
        "xgboost",
        "xgboost_iris",
        "xgboost_booster",
        "xgboost_regressor",
        "lightgbm",
        "lightgbm_booster",
    ] {
        stage.register(model, model).await;
        assert_eq!(engine(&stage, model).await, "native", "{model}");
    }
}

#[tokio::test]
async fn other_models_are_left_to_python() {
    let stage = Stage::new(Config::default()).await;
    for model in ["logistic", "mixed", "lightgbm_iris"] {
        stage.register(model, model).await;
        assert_eq!(engine(&stage, model).await, "python", "{model}");
    }
}

#[tokio::test]
async fn the_native_engine_can_be_turned_off() {
    let config = Config {
        native: false,
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("forest", "forest").await;
    assert_eq!(engine(&stage, "forest").await, "python");
}

#[tokio::test]
async fn what_python_refuses_is_refused_by_python() {
    let stage = Stage::new(Config::default()).await;
    stage.register("iris", "iris").await;
    assert_eq!(engine(&stage, "iris").await, "native");
    // More than 32 bits hold, which scikit-learn says.
    let huge = r#"{"a": [1e300], "b": [1], "c": [1], "d": [1]}"#;
    let (status, answer) = stage.ask("iris", huge).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert!(answer["message"].as_str().unwrap().contains("ValueError"));
}
