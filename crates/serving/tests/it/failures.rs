//! What goes wrong is said with its cause and what to do.

use axum::http::StatusCode;
use serde_json::Value;
use serving::Config;

use crate::setup::Stage;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn without_models_there_is_nothing_to_ask() {
    let stage = Stage::new(Config::default()).await;
    let (status, answer) = stage.ask("iris", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["code"], "no_models");
    assert!(text(&answer["help"]).contains("asgard run"), "{answer:#}");
}

#[tokio::test]
async fn an_unknown_model_or_version_is_named_with_what_there_is() {
    let stage = Stage::new(Config::default()).await;
    stage.register("iris", "iris").await;
    let (status, answer) = stage.ask("irsi", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(text(&answer["message"]).contains("irsi"));
    assert!(text(&answer["help"]).contains("iris"), "{answer:#}");
    for version in [r#""7""#, "7", r#""@champion""#, r#""Production""#] {
        let body = format!(
            r#"{{"model_name": "iris", "model_version": {version}, "inputs": {{"a": [1]}}}}"#
        );
        let (status, answer) = stage.post(body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{version}: {answer:#}");
        assert!(text(&answer["detail"]).contains("iris"), "{answer:#}");
        assert!(
            text(&answer["detail"]).contains(version.trim_matches('"')),
            "{answer:#}"
        );
    }
}

#[tokio::test]
async fn columns_that_do_not_fit_are_422_and_named() {
    let stage = Stage::new(Config::default()).await;
    stage.register("forest", "forest").await;
    stage.register("iris", "iris").await;
    let (status, answer) = stage
        .ask("iris", r#"{"feature_1": [1], "feature_2": [2]}"#)
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = text(&answer["message"]);
    assert!(
        message.contains("expects 4 columns, but 2 were sent"),
        "{answer:#}"
    );

    let (status, answer) = stage
        .ask("forest", r#"{"feature_0": [1, 2], "feature_1": [1]}"#)
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer["detail"][0]["loc"],
        serde_json::json!(["body", "inputs", "feature_1"])
    );

    let wrong = stage.inputs("forest").replacen("[", r#"["many", "#, 1);
    let (_, answer) = stage.ask("forest", &wrong).await;
    assert!(text(&answer["message"]).contains("feature_1"), "{answer:#}");

    for (inputs, word) in [("[1]", "columns"), ("{\"x\": 5}", "inputs.x")] {
        let (status, answer) = stage.ask("forest", inputs).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
        assert!(text(&answer["message"]).contains(word), "{answer:#}");
    }
}

#[tokio::test]
async fn an_exception_of_the_model_comes_with_its_traceback() {
    let stage = Stage::new(Config::default()).await;
    stage.register("custom", "custom").await;
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["raise"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert!(text(&answer["message"]).contains("ValueError: the third law"));
    assert!(text(&answer["details"]["traceback"]).contains("Traceback"));
}

#[tokio::test]
async fn a_worker_that_dies_answers_502_and_is_started_again() {
    let stage = Stage::new(Config::default()).await;
    stage.register("custom", "custom").await;
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["end"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:#}");
    assert!(
        text(&answer["message"]).contains("ended with code 7"),
        "{answer:#}"
    );
    assert!(
        answer["details"]["log"]
            .to_string()
            .contains("prints what it likes")
    );
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["you"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
}

#[tokio::test]
async fn a_worker_takes_no_more_memory_than_all_may_together() {
    let config = Config {
        memory_bytes: Some(1 << 30),
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("custom", "custom").await;
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["hoard"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:#}");
    assert!(text(&answer["message"]).contains("memory"), "{answer:#}");
    let (status, _) = stage
        .ask("custom", r#"{"what": ["you"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_without_measure_is_not_taken() {
    let stage = Stage::new(Config::default()).await;
    stage.register("custom", "custom").await;
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["flood"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:#}");
    assert!(text(&answer["message"]).contains("more than"), "{answer:#}");
}

#[tokio::test]
async fn a_prediction_that_takes_too_long_is_given_up() {
    let config = Config {
        request_timeout_ms: 1_500,
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("custom", "custom").await;
    let (status, answer) = stage
        .ask("custom", r#"{"what": ["sleep"], "x": [1.0]}"#)
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer:#}");
    assert_eq!(answer["code"], "prediction_timeout");
    assert!(text(&answer["help"]).contains("request_timeout_ms"));
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let config = Config {
        queue_length: 1,
        request_timeout_ms: 10_000,
        ..Config::default()
    };
    let stage = Stage::new(config).await;
    stage.register("custom", "custom").await;
    let sleep = r#"{"what": ["sleep"], "x": [1.0]}"#;
    stage
        .ask("custom", r#"{"what": ["you"], "x": [1.0]}"#)
        .await;
    // One waits until its time is over, behind one that may be under way already; there is no room
    // for all three.
    let ask = || stage.ask("custom", sleep);
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    let busy: Vec<_> = [first, second, third]
        .into_iter()
        .filter(|(_, answer)| answer["code"] == "model_busy")
        .collect();
    assert!(matches!(busy.len(), 1 | 2), "{busy:#?}");
    assert_eq!(busy[0].0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why() {
    let stage = Stage::new(Config::default()).await;
    stage.register("lost", "lost").await;
    let (status, answer) = stage.ask("lost", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert!(
        text(&answer["help"]).contains("not_installed"),
        "{answer:#}"
    );
    assert!(text(&answer["message"]).contains("ModuleNotFoundError"));

    stage.register("broken", "broken").await;
    let (status, answer) = stage.ask("broken", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert_eq!(answer["code"], "model_load_failed");
}

#[tokio::test]
async fn files_that_are_no_model_are_listed() {
    let stage = Stage::new(Config::default()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
    stage.register_folder("notes", folder.path(), true).await;
    let (status, answer) = stage.ask("notes", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert!(answer["details"]["files"].to_string().contains("notes.txt"));
    assert!(text(&answer["help"]).contains("log_model"));
}

#[tokio::test]
async fn a_model_that_names_no_packages_says_so() {
    let stage = Stage::new(Config::default()).await;
    let folder = stage.folder("pickle");
    stage.register_folder("pickle", &folder, false).await;
    let (status, answer) = stage.ask("pickle", r#"{"a": [1]}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:#}");
    assert_eq!(answer["code"], "model_environment");
}
