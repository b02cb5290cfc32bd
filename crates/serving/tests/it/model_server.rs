//! One model without a registry, through the routes of a model server.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use serving::{Config, ModelServer, Variables};
use web::testing::{request, send};
use web::{Door, Identity};

use crate::setup::{Stage, copy, load, post as post_text};

fn router(server: &ModelServer) -> Router {
    let nobody = std::sync::Arc::new(|_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        Box::pin(async { Ok(None) })
    });
    let routes = serving::model_server_routes(server.clone());
    Door::new(nobody)
        .open_to(Identity::Local)
        .guard(routes.into_router())
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    let answer = send(router, request(Method::GET, path, None)).await;
    (answer.status, answer.json())
}

async fn post(router: &Router, path: &str, body: &Value) -> (StatusCode, Value) {
    post_text(router, path, body.to_string()).await
}

#[tokio::test]
async fn every_protocol_gives_the_answer_of_python() {
    let stage = Stage::new(Config::default()).await;
    for model in ["iris", "logistic"] {
        let server = stage.model_server(model).await;
        let router = router(&server);
        // As text: the order of the columns counts where the model knows no names.
        let inputs = stage.inputs(model);
        let expected = stage.answers(model);

        let body = format!(r#"{{"inputs": {inputs}, "return_probabilities": true}}"#);
        let (status, answer) = post_text(&router, "/predict", body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        assert_eq!(answer["predictions"], expected["predictions"]);
        assert_eq!(answer["probabilities"], expected["probabilities"]);
        assert_eq!(
            (&answer["model_name"], &answer["model_version"]),
            (&json!(model), &json!("7"))
        );

        let body = format!(r#"{{"inputs": {inputs}}}"#);
        let (status, answer) = post_text(&router, "/invocations", body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        assert_eq!(answer, json!({ "predictions": expected["predictions"] }));

        let columns: Value = serde_json::from_str(&inputs).unwrap();
        let mut columns: Vec<_> = columns.as_object().unwrap().iter().collect();
        columns.sort_by_key(|(name, _)| inputs.find(&format!("{name:?}:")));
        let tensors: Vec<Value> = columns
            .into_iter()
            .map(|(name, data)| {
                let rows = data.as_array().unwrap().len();
                json!({ "name": name, "shape": [rows], "datatype": "FP64", "data": data })
            })
            .collect();
        let path = format!("/v2/models/{model}/versions/7/infer");
        let (status, answer) = post(&router, &path, &json!({ "id": "a", "inputs": tensors })).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        assert_eq!(answer["id"], "a");
        assert_eq!(answer["outputs"][0]["data"], expected["predictions"]);
    }
}

#[tokio::test]
async fn the_models_code_finds_its_variables() {
    let stage = Stage::new(Config::default()).await;
    let body = json!({ "inputs": { "what": ["variables"], "x": [1.0] } });
    let mut homes = Vec::new();
    for greeting in [None, Some("good morning")] {
        let pairs = greeting.map(|greeting| [("GREETING", greeting), ("LANG", "C"), ("HOME", "/")]);
        let pairs = pairs.into_iter().flatten();
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = Variables::from(BTreeMap::from_iter(pairs));
        let server = stage.model_server_with("custom", variables).await;
        let (status, mut answer) = post(&router(&server), "/predict", &body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        homes.push(answer["predictions"][3].take());
        let lang = greeting.map_or("C.UTF-8", |_| "C");
        let expected = json!([greeting, greeting, lang, null, null]);
        assert_eq!(answer["predictions"], expected, "{answer:#}");
    }
    assert!(
        !homes.contains(&json!("/")),
        "where the worker lives is not the model's choice: {homes:?}"
    );
}

#[tokio::test]
async fn what_was_proven_of_a_model_holds_for_the_same_files_only() {
    let stage = Stage::new(Config::default()).await;
    stage.model_server("forest").await;
    let home = |name: &str| stage.data_dir.path().join(name);
    let proofs = std::fs::read_dir(home("model-server/proofs")).unwrap();
    let proofs: Vec<_> = proofs.map(|entry| entry.unwrap().path()).collect();
    let [proof] = proofs.as_slice() else {
        panic!("{proofs:?}");
    };
    // No worker starts in this time.
    let hurried = Config {
        load_timeout_s: 0,
        ..Config::default()
    };
    let hurry = |folder, home| load(folder, Variables::default(), hurried.clone(), home);
    let own = || stage.model_folder("forest", stage.folder("forest"));
    let mut handed = own();
    handed.proof = Some(proof.clone());
    for (folder, home) in [
        (own(), home("model-server")),
        (handed.clone(), home("replica")),
    ] {
        let router = router(&hurry(folder, home).await.unwrap());
        let body = format!(
            r#"{{"inputs": {}, "return_probabilities": true}}"#,
            stage.inputs("forest")
        );
        let (status, answer) = post_text(&router, "/predict", body).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        let expected = stage.answers("forest");
        assert_eq!(answer["predictions"], expected["predictions"]);
        assert_eq!(answer["probabilities"], expected["probabilities"]);
    }

    let changed = stage.data_dir.path().join("changed");
    copy(&stage.folder("forest"), &changed);
    std::fs::write(changed.join("more.txt"), "another file").unwrap();
    let mut other = stage.model_folder("forest", changed);
    other.proof = Some(proof.clone());
    let refused = hurry(other, home("other")).await;
    assert!(matches!(refused, Err(serving::Error::LoadTimeout { .. })));
    let pairs = [("GREETING".to_owned(), "hello".to_owned())];
    let variables = Variables::from(BTreeMap::from(pairs));
    let refused = load(own(), variables, hurried.clone(), home("model-server")).await;
    assert!(matches!(refused, Err(serving::Error::LoadTimeout { .. })));

    std::fs::write(proof, "broken").unwrap();
    let refused = hurry(own(), home("model-server")).await;
    assert!(matches!(refused, Err(serving::Error::LoadTimeout { .. })));
    stage.model_server("forest").await;
    hurry(handed, home("replica")).await.unwrap();
}

#[tokio::test]
async fn it_tells_what_it_is_and_when_it_stops() {
    let stage = Stage::new(Config::default()).await;
    let server = stage.model_server("iris").await;
    let router = router(&server);
    let (_, about) = get(&router, "/").await;
    assert_eq!(about["endpoints"]["predict"], "/predict");
    let (_, metadata) = get(&router, "/metadata").await;
    assert_eq!(metadata["engine"], "native", "{metadata:#}");
    let (_, metadata) = get(&router, "/v2/models/iris").await;
    assert_eq!(metadata["versions"], json!(["7"]));
    let (status, health) = get(&router, "/health").await;
    assert_eq!(
        (status, &health["status"]),
        (StatusCode::OK, &json!("healthy"))
    );
    server.drain();
    assert_eq!(
        get(&router, "/health").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        get(&router, "/v2/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(get(&router, "/v2/health/live").await.0, StatusCode::OK);
}

#[tokio::test]
async fn another_model_or_wrong_columns_are_refused() {
    let stage = Stage::new(Config::default()).await;
    let router = router(&stage.model_server("iris").await);
    let inputs: Value = serde_json::from_str(&stage.inputs("iris")).unwrap();
    for body in [
        json!({ "model_name": "rose", "inputs": inputs }),
        json!({ "model_version": 6, "inputs": inputs }),
    ] {
        let (status, answer) = post(&router, "/mlops/inference", &body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{answer:#}");
    }
    let (status, _) = post(&router, "/v2/models/rose/infer", &json!({ "inputs": [] })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    for (path, body) in [
        ("/predict", json!({ "inputs": { "x": [1] } })),
        ("/predict", json!({ "rows": [] })),
        ("/invocations", json!({ "data": [[1]] })),
        (
            "/invocations",
            json!({ "dataframe_split": { "columns": ["x"], "data": [[1]] } }),
        ),
    ] {
        let (status, answer) = post(&router, path, &body).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{path}: {answer:#}"
        );
        assert!(answer["message"].is_string(), "{answer:#}");
    }
}
