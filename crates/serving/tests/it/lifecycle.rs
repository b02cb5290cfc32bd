//! Models come when they are asked for and go when they are deleted or too many.

use axum::http::StatusCode;
use registry::Selector;
use serving::Config;

use crate::setup::Stage;

#[tokio::test]
async fn a_version_is_found_by_number_alias_and_as_the_latest() {
    let stage = Stage::new(Config::default()).await;
    stage.register("flowers", "iris").await;
    stage.register("flowers", "svc").await;
    let version = async |wanted: &str, inputs: &str| {
        let body = format!(r#"{{"model_name": "flowers", "inputs": {inputs}{wanted}}}"#);
        let (status, answer) = stage.post(body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["model_version"].as_str().unwrap().to_owned()
    };
    let (iris, svc) = (stage.inputs("iris"), stage.inputs("svc"));
    assert_eq!(version("", &svc).await, "2");
    assert_eq!(version(r#", "model_version": "1""#, &iris).await, "1");
    stage
        .registry
        .set_alias("flowers", "champion", 1)
        .await
        .unwrap();
    let champion = r#", "model_version": "@champion""#;
    assert_eq!(version(champion, &iris).await, "1");
    // From one request to the next.
    stage
        .registry
        .set_alias("flowers", "champion", 2)
        .await
        .unwrap();
    assert_eq!(version(champion, &svc).await, "2");
}

#[tokio::test]
async fn a_deleted_version_is_no_longer_served() {
    let stage = Stage::new(Config::default()).await;
    stage.register("iris", "iris").await;
    let inputs = stage.inputs("iris");
    assert_eq!(stage.ask("iris", &inputs).await.0, StatusCode::OK);
    stage.registry.delete_version("iris", 1).await.unwrap();
    let (status, answer) = stage.ask("iris", &inputs).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer:#}");
    assert!(
        stage
            .registry
            .resolve("iris", &Selector::Latest)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn only_so_many_models_are_kept_ready() {
    let config = Config {
        max_models: 1,
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("iris", "iris").await;
    stage.register("svc", "svc").await;
    let loaded = async |model: &str| {
        let (status, answer) = stage.ask(model, &stage.inputs(model)).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer["notes"]
            .to_string()
            .contains("loaded for this request")
    };
    assert!(loaded("iris").await);
    assert!(!loaded("iris").await);
    assert!(loaded("svc").await);
    assert!(loaded("iris").await, "it had to make room");
}

#[tokio::test]
async fn requests_that_come_together_get_the_answers_they_would_get_alone() {
    let config = Config {
        native: false,
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("forest", "forest").await;
    let all: serde_json::Value = serde_json::from_str(&stage.inputs("forest")).unwrap();
    let expected = stage.answers("forest");
    let row = |row: usize| {
        let columns = all.as_object().unwrap().iter();
        let one = columns.map(|(name, values)| (name.clone(), serde_json::json!([values[row]])));
        serde_json::Value::Object(one.collect()).to_string()
    };
    stage.ask("forest", &row(0)).await;
    let requests = (0..200).map(|i| {
        let (stage, inputs) = (&stage, row(i % 25));
        async move { (i % 25, stage.ask("forest", &inputs).await) }
    });
    for (row, (status, answer)) in futures_util::future::join_all(requests).await {
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        assert_eq!(answer["predictions"][0], expected["predictions"][row]);
        assert_eq!(answer["probabilities"][0], expected["probabilities"][row]);
    }
}
