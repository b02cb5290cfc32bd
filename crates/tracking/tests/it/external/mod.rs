//! Tracking that an external MLflow server keeps: a small server of these tests stands for it.

mod files;
mod jobs;
mod upstream;

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use tokio::net::{TcpListener, TcpStream};
use web::{Identity, Role};

use crate::server::job;

use upstream::{RUN, Seen, Upstream, answer, both};

#[tokio::test]
async fn requests_and_refusals_pass_as_they_are() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/2.0/mlflow/runs/search?x=%20y")
            .header(header::AUTHORIZATION, "Bearer of-asgard")
            .header(header::COOKIE, "a=b")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"filter":"nonsense"}"#))
            .unwrap();
        let refused = server.ask(Identity::Local, request).await;
        assert_eq!(refused.error(), (400, "INVALID_PARAMETER_VALUE".to_owned()));
        assert_eq!(
            refused.json()["message"],
            "upstream says INVALID_PARAMETER_VALUE"
        );
        let asked = upstream.seen.last();
        assert_eq!(
            asked.path, "/base/api/2.0/mlflow/runs/search?x=%20y",
            "{}",
            server.name
        );
        assert_eq!((asked.method, asked.bytes), (Method::POST, 21));
        assert_eq!(asked.body["filter"], "nonsense");
        assert_eq!(asked.authorization.as_deref(), Some("Basic bWU6cGFzcw=="));
        assert!(!asked.cookie);
        // A route that asgard does not have.
        let newer = server
            .send(Method::GET, "/api/9.0/mlflow/new?a=1", "")
            .await;
        newer.ok();
        assert_eq!(upstream.seen.last().path, "/base/api/9.0/mlflow/new?a=1");
    }
}

#[tokio::test]
async fn what_asgard_does_not_know_is_changed_by_administrators_alone() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let key = |role| Identity::Key {
            id: "k".to_owned(),
            name: "k".to_owned(),
            role,
        };
        let unknown = "/api/2.0/mlflow/users/create";
        let twin = "/ajax-api/3.0/mlflow/gateway/secrets/create";
        let gateway = "/ajax-api/2.0/mlflow/gateway-proxy";
        for (path, least) in [
            (unknown, Role::Admin),
            (twin, Role::Admin),
            (gateway, Role::Editor),
        ] {
            for role in Role::ALL {
                let may = role >= least;
                for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                    if path == gateway && method != Method::POST {
                        continue;
                    }
                    let before = upstream.seen.count();
                    let asked = server.send_as(key(role), method.clone(), path, "{}").await;
                    let status = match may {
                        true => StatusCode::OK,
                        false => StatusCode::FORBIDDEN,
                    };
                    assert_eq!(asked.status, status, "{role:?} {method} {path}");
                    assert_eq!(upstream.seen.count() - before, usize::from(may), "{path}");
                }
            }
            let refused = server.send_as(job("j1"), Method::POST, path, "{}").await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_as_asgards_own() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let refused = server.get("experiments/get?experiment_id=9").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("tracking.token"), "{message}");
        assert!(!message.contains("pass@"), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_and_comes_back() {
    let mut upstream = Upstream::start();
    let servers = both(&upstream.url).await;
    let address = upstream.url.rsplit('@').next().unwrap();
    let address = address.trim_end_matches("/base").to_owned();
    for server in &servers {
        assert_eq!(
            server.tracking.counts().await.unwrap().active_experiments,
            2
        );
    }
    upstream.stop();
    while TcpStream::connect(&address).await.is_ok() {}
    for server in &servers {
        let asked = Instant::now();
        let gone = server.get(&format!("runs/get?run_id={RUN}")).await;
        assert_eq!(gone.status, StatusCode::SERVICE_UNAVAILABLE);
        let message = gone.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("cannot be reached") && message.contains("start that server"),
            "{message}"
        );
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
    // Taken, but nobody answers: as a stopped process.
    let listener = TcpListener::bind(&address).await.unwrap();
    for server in &servers {
        let asked = Instant::now();
        let error = server.tracking.counts().await.unwrap_err();
        assert!(matches!(error, tracking::Error::NoAnswer { .. }), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(10));
    }
    let router = Router::new().fallback(answer).with_state(Seen::default());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for server in &servers {
        assert_eq!(
            server.tracking.counts().await.unwrap().active_experiments,
            2
        );
    }
}
