//! How requests are read: content types, broken bodies, unknown routes.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::json;
use web::Identity;

use crate::server::both;

#[tokio::test]
async fn a_post_must_say_that_it_is_json() {
    for server in both().await {
        let body = json!({"name": "a"}).to_string();
        for (content_type, fits) in [
            (None, false),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/json; charset=utf-8"), true),
        ] {
            let request = Request::builder().method(Method::POST);
            let mut request = request.uri("/api/2.0/mlflow/experiments/create");
            if let Some(content_type) = content_type {
                request = request.header(header::CONTENT_TYPE, content_type);
            }
            let request = request.body(Body::from(body.clone())).unwrap();
            let answer = server.ask(Identity::Local, request).await;
            if fits {
                answer.ok();
            } else {
                assert_eq!(
                    answer.error(),
                    (400, "BAD_REQUEST".to_owned()),
                    "{content_type:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn broken_bodies_are_clean_400s() {
    for server in both().await {
        for body in [
            "{",
            "[]",
            "null x",
            "{\"name\": NaN}",
            "{\"name\": \"a\\u0000b\"}",
            "{\"name\": 5}",
            "",
        ] {
            let request = Request::builder()
                .method(Method::POST)
                .uri("/api/2.0/mlflow/experiments/create")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body))
                .unwrap();
            let answer = server.ask(Identity::Local, request).await;
            assert_eq!(answer.error().0, 400, "{body}");
            let message = answer.json()["message"].as_str().unwrap().to_lowercase();
            assert!(
                !message.contains("insert") && !message.contains("select"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn the_pages_prefix_answers_too_and_unknown_routes_are_json() {
    for server in both().await {
        let path = "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0";
        server.send(Method::GET, path, Body::empty()).await.ok();
        let info = server
            .send(Method::GET, "/api/3.0/mlflow/server-info", Body::empty())
            .await
            .ok();
        assert_eq!(info["store_type"], "SqlStore");
        let unknown = server.get("genai/judges").await;
        assert_eq!(unknown.error(), (404, "ENDPOINT_NOT_FOUND".to_owned()));
        let method = server
            .send(Method::PUT, "/api/2.0/mlflow/runs/get", Body::empty())
            .await;
        assert_eq!(method.error(), (405, "ENDPOINT_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn nobody_may_do_nothing() {
    for server in both().await {
        let path = "/api/2.0/mlflow/experiments/get?experiment_id=0";
        let answer = server
            .send_as(Identity::Anonymous, Method::GET, path, Body::empty())
            .await;
        assert_eq!(answer.error(), (401, "UNAUTHENTICATED".to_owned()));
    }
}
