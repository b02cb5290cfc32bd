//! Webhooks through their routes, told to a real receiver, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod receiver;
mod server;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use webhooks::{Config, Event};

use receiver::Receiver;
use server::{Server, both};

/// Lets webhooks lead to the receiver of the test, and tries quickly.
fn open() -> Config {
    Config {
        allow_private_addresses: true,
        allow_http: true,
        backoff_ms: 1,
        max_attempts: 3,
        ..Config::default()
    }
}

fn hook(url: &str) -> Value {
    json!({
        "name": "ci", "url": url, "secret": "s3cret",
        "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}, {"entity": 3, "action": "SET"}],
    })
}

async fn create(server: &Server, url: &str) -> String {
    let made = server
        .ask(Method::POST, "/api/2.0/mlflow/webhooks", hook(url))
        .await;
    assert_eq!(made.0, StatusCode::OK, "{}", made.1);
    made.1["webhook"]["webhook_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_webhook_is_made_read_changed_and_deleted_and_its_secret_never_comes_back() {
    for server in both(Config::default()).await {
        let all = "/api/2.0/mlflow/webhooks";
        let id = create(&server, "https://example.com/hook").await;
        let one = format!("{all}/{id}");
        let (_, got) = server.ask(Method::GET, &one, Value::Null).await;
        let webhook = &got["webhook"];
        assert_eq!(webhook["status"], "ACTIVE");
        assert_eq!(
            webhook["events"],
            json!([
                {"entity": "MODEL_VERSION_TAG", "action": "SET"},
                {"entity": "REGISTERED_MODEL", "action": "CREATED"},
            ])
        );
        let change = json!({"status": "DISABLED", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]});
        let (status, changed) = server.ask(Method::PATCH, &one, change).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(changed["webhook"]["status"], "DISABLED");
        assert_eq!(changed["webhook"]["name"], "ci");
        let (_, listed) = server.ask(Method::GET, all, Value::Null).await;
        assert_eq!(listed["webhooks"][0], changed["webhook"]);
        let (_, own) = server
            .ask(Method::GET, "/mlops/webhooks", Value::Null)
            .await;
        assert_eq!(
            own["webhooks"][0]["events"],
            json!(["model_version.created"])
        );
        for answer in [&got, &changed, &listed, &own] {
            assert!(!answer.to_string().contains("s3cret"), "{answer}");
        }
        let (status, _) = server.ask(Method::DELETE, &one, Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        let (status, gone) = server.ask(Method::GET, &one, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{}", server.name);
        assert_eq!(gone["error_code"], "RESOURCE_DOES_NOT_EXIST");
    }
}

#[tokio::test]
async fn what_no_webhook_may_be_is_refused_with_the_reason() {
    for server in both(Config::default()).await {
        for (field, value, told) in [
            ("name", json!("UPPER"), "is invalid"),
            ("url", json!("http://example.com"), "allow_http"),
            (
                "url",
                json!("https://169.254.169.254/latest"),
                "inner network",
            ),
            ("url", json!("https://[::ffff:127.0.0.1]/"), "inner network"),
            ("url", json!(""), "Missing value"),
            ("url", json!("  "), "empty or just whitespace"),
            (
                "url",
                json!("ftp://example.com"),
                "Invalid webhook URL scheme",
            ),
            ("events", json!([]), "non-empty"),
            (
                "events",
                json!([{"entity": "NOTHING", "action": "SET"}]),
                "Valid events",
            ),
            ("status", json!("GONE"), "ACTIVE or DISABLED"),
        ] {
            let mut body = hook("https://example.com/hook");
            body[field] = value;
            let (status, answer) = server
                .ask(Method::POST, "/api/2.0/mlflow/webhooks", body)
                .await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{field}: {answer}");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(told), "{message}");
        }
    }
}

#[tokio::test]
async fn an_event_is_told_once_it_is_committed_signed_and_again_until_it_is_heard() {
    for server in both(open()).await {
        let receiver = Receiver::start(&[503, 200]).await;
        let id = create(&server, &receiver.url).await;
        let data = json!({"name": "iris"});
        let never = json!({"name": "never"});
        server.record(Event::MODEL_CREATED, &never, false).await;
        server.record(Event::MODEL_CREATED, &data, true).await;
        server.record(Event::ALIAS_CREATED, &data, true).await;
        let log = server.until_ended(&id).await;
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(log[0]["state"], "delivered", "{log:?}");
        assert_eq!(log[0]["attempts"], 2);
        let heard = receiver.heard();
        assert_eq!(heard.len(), 2);
        for letter in &heard {
            assert_eq!(
                letter.header("x-mlflow-delivery-id"),
                log[0]["delivery_id"].as_str().unwrap()
            );
            assert_eq!(letter.header("x-mlflow-signature"), letter.signed("s3cret"));
            let body: Value = serde_json::from_str(&letter.body).unwrap();
            assert_eq!(body["data"], data);
            assert_eq!(
                (&body["entity"], &body["action"]),
                (&json!("registered_model"), &json!("created"))
            );
        }
    }
}

#[tokio::test]
async fn secrets_lie_sealed_in_the_database_also_those_of_earlier_versions() {
    for server in both(open()).await {
        let receiver = Receiver::start(&[200]).await;
        let id = create(&server, &receiver.url).await;
        let (plain, sealed) = server.stored_secret(&id).await;
        assert_eq!(plain, None, "{}", server.name);
        assert!(!sealed.unwrap().contains("s3cret"));
        server.store_plain_secret(&id, "older").await;
        server.webhooks.seal_plain_secrets().await.unwrap();
        let (plain, sealed) = server.stored_secret(&id).await;
        assert_eq!(plain, None);
        assert!(!sealed.unwrap().contains("older"));
        server.record(Event::MODEL_CREATED, &json!({}), true).await;
        server.until_ended(&id).await;
        let heard = receiver.heard();
        let signature = heard[0].header("x-mlflow-signature");
        assert_eq!(signature, heard[0].signed("older"));
    }
}

#[tokio::test]
async fn without_its_key_a_webhook_says_so_and_sends_nothing() {
    for server in both(open()).await {
        let receiver = Receiver::start(&[200]).await;
        let id = create(&server, &receiver.url).await;
        server.store_sealed_secret(&id, "AAAA").await;
        server.record(Event::MODEL_CREATED, &json!({}), true).await;
        let log = server.until_ended(&id).await;
        assert_eq!(log[0]["state"], "failed");
        let error = log[0]["error"].as_str().unwrap();
        assert!(error.contains("server.secret_key"), "{error}");
        let test = format!("/mlops/webhooks/{id}/test");
        let (status, answer) = server.ask(Method::POST, &test, json!({})).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(receiver.heard().is_empty());
    }
}

#[tokio::test]
async fn a_webhook_is_tested_by_our_own_route() {
    for server in both(open()).await {
        let receiver = Receiver::start(&[200, 404]).await;
        let id = create(&server, &receiver.url).await;
        let test = format!("/mlops/webhooks/{id}/test");
        let (_, answer) = server.ask(Method::POST, &test, json!({})).await;
        assert_eq!(
            (&answer["success"], &answer["response_status"]),
            (&json!(true), &json!(200))
        );
        let body = json!({"event": "job.completed"});
        let (_, answer) = server.ask(Method::POST, &test, body).await;
        assert_eq!(
            (&answer["success"], &answer["response_status"]),
            (&json!(false), &json!(404))
        );
        let body: Value = serde_json::from_str(&receiver.heard()[1].body).unwrap();
        assert_eq!(body["entity"], "job");
        let (status, _) = server
            .ask(Method::POST, &test, json!({"event": "no.such"}))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let other = "/mlops/webhooks/none/test";
        let (status, _) = server.ask(Method::POST, other, json!({})).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_is_final() {
    for server in both(open()).await {
        let inside = Receiver::start(&[200]).await;
        let receiver = Receiver::redirecting(&inside.url).await;
        let id = create(&server, &receiver.url).await;
        server.record(Event::MODEL_CREATED, &json!({}), true).await;
        let log = server.until_ended(&id).await;
        assert_eq!(log[0]["state"], "failed");
        assert_eq!(log[0]["response_status"], 307);
        assert!(inside.heard().is_empty(), "{}", server.name);
    }
}

#[tokio::test]
async fn a_name_of_the_inner_network_is_found_out_when_it_is_resolved() {
    let config = Config {
        allow_private_addresses: false,
        ..open()
    };
    for server in both(config).await {
        let receiver = Receiver::start(&[200]).await;
        let url = receiver.url.replace("127.0.0.1", "localhost");
        let id = create(&server, &url).await;
        server.record(Event::MODEL_CREATED, &json!({}), true).await;
        let log = server.until_ended(&id).await;
        assert_eq!(log[0]["state"], "failed");
        let error = log[0]["error"].as_str().unwrap();
        assert!(error.contains("inner network"), "{error}");
        assert!(receiver.heard().is_empty());
        let test = format!("/api/2.0/mlflow/webhooks/{id}/test");
        let (_, tested) = server.ask(Method::POST, &test, json!({})).await;
        assert_eq!(tested["result"]["success"], false);
    }
}

#[tokio::test]
async fn a_test_tells_what_the_receiver_answered() {
    for server in both(open()).await {
        let receiver = Receiver::start(&[200, 500]).await;
        let id = create(&server, &receiver.url).await;
        let test = format!("/api/2.0/mlflow/webhooks/{id}/test");
        let event = json!({"event": {"entity": "MODEL_VERSION_TAG", "action": "SET"}});
        let (_, good) = server.ask(Method::POST, &test, event).await;
        assert_eq!(good["result"]["success"], true);
        assert_eq!(good["result"]["response_status"], 200);
        let body: Value = serde_json::from_str(&receiver.heard()[0].body).unwrap();
        assert_eq!(body["data"]["key"], "example_key");
        let (_, bad) = server.ask(Method::POST, &test, json!({})).await;
        assert_eq!(bad["result"]["success"], false);
        assert_eq!(bad["result"]["response_status"], 500);
    }
}

#[tokio::test]
async fn beside_an_external_registry_webhooks_are_told_of_jobs_only() {
    for server in both(open()).await {
        let server = server.beside_external();
        let all = "/api/2.0/mlflow/webhooks";
        let one = format!("{all}/w1");
        for (method, path) in [
            (Method::POST, all),
            (Method::GET, all),
            (Method::PATCH, one.as_str()),
        ] {
            let (status, answer) = server.ask(method, path, json!({})).await;
            assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{answer}");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains("tracking.uri"), "{message}");
        }
        let receiver = Receiver::start(&[200]).await;
        let make = async |event: &str| {
            let body = json!({"name": "ci", "url": receiver.url, "events": [event]});
            server.ask(Method::POST, "/mlops/webhooks", body).await
        };
        let (status, answer) = make("model_version.created").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert_eq!(make("job.failed").await.0, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn a_text_that_no_database_keeps_is_the_callers_mistake() {
    for server in both(Config::default()).await {
        let hook = json!({
            "name": "ci", "url": "https://example.com/hook", "description": "a\0b",
            "events": ["registered_model.created"],
        });
        let (status, body) = server.ask(Method::POST, "/mlops/webhooks", hook).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body["detail"].as_str().unwrap().contains("NUL"), "{body}");
    }
}
