//! Files that go to the external server and come from it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use serde_json::json;
use tracking::{Config, External, Location, Tracking};
use web::{Identity, Role};

use crate::server::job;

use super::upstream::{OTHER, RUN, Upstream, both, post};

#[tokio::test]
async fn files_stream_both_ways_and_only_into_the_jobs_own_folder() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let made = post(
            &server,
            job("j1"),
            "runs/create",
            json!({"experiment_id": "1"}),
        );
        made.await.ok();
        let store = "/api/2.0/mlflow-artifacts/artifacts";
        let piece = Bytes::from(vec![1_u8; 1 << 20]);
        let pieces = (0..64).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let path = format!("{store}/1/{RUN}/artifacts/a%20b/big");
        let put = server.send_as(job("j1"), Method::PUT, &path, body).await;
        assert_eq!(put.status, StatusCode::OK);
        assert_eq!(upstream.seen.last().bytes, 64 << 20);
        assert!(upstream.seen.last().path.ends_with("/artifacts/a%20b/big"));
        let before = upstream.seen.count();
        for place in [
            format!("1/{OTHER}/artifacts/x"),
            format!("2/{RUN}/artifacts/x"),
            format!("1/{RUN}/artifacts/%2e%2e/%2e%2e/{OTHER}/artifacts/x"),
            format!("1/{RUN}/artifacts%2f..%2fx"),
        ] {
            let path = format!("{store}/{place}");
            let refused = server.send_as(job("j1"), Method::PUT, &path, "x").await;
            assert!(refused.status.is_client_error(), "{place}");
        }
        assert_eq!(upstream.seen.count(), before);
        let got = server.send(Method::GET, &path, "").await;
        assert_eq!(got.body.len(), 64 << 20);
        assert_eq!(
            got.header(header::CONTENT_SECURITY_POLICY),
            "sandbox; default-src 'none'"
        );
    }
}

#[tokio::test]
async fn files_of_registered_versions_stay_for_whoever_does_not_manage_models() {
    let upstream = Upstream::start();
    let config = Config {
        uri: Some(upstream.url.clone()),
        ..Config::default()
    };
    let servers = crate::server::both_with(|db| {
        let external = External::of(&config, db.clone()).unwrap().unwrap();
        Tracking::at(external, db).with_registered(Arc::new(|question| {
            let key = question.place.key().to_owned();
            let version = "version 1 of model \"m\"".to_owned();
            Box::pin(async move { Ok(key.contains("/model").then_some(version)) })
        }))
    });
    for server in servers.await {
        let store = "/api/2.0/mlflow-artifacts";
        let own = "/ajax-api/2.0/mlflow/upload-artifact";
        let signed = "/api/2.0/mlflow/artifacts/presigned-upload-url";
        let body = |name: &str| json!({ "run_id": RUN, "path": name }).to_string();
        for (role, name, status) in [
            (Role::Runner, "other", StatusCode::OK),
            (Role::Runner, "model", StatusCode::FORBIDDEN),
            (Role::Editor, "model", StatusCode::OK),
        ] {
            let place = format!("1/{RUN}/artifacts/{name}/x");
            for (method, path, body) in [
                (
                    Method::PUT,
                    format!("{store}/artifacts/{place}"),
                    "x".to_owned(),
                ),
                (
                    Method::POST,
                    format!("{store}/mpu/create/{place}"),
                    "{}".to_owned(),
                ),
                (
                    Method::POST,
                    format!("{own}?run_uuid={RUN}&path={name}"),
                    "x".to_owned(),
                ),
                (Method::POST, signed.to_owned(), body(name)),
            ] {
                let caller = Identity::Key {
                    id: "k".to_owned(),
                    name: "k".to_owned(),
                    role,
                };
                let answer = server.send_as(caller, method, &path, body).await;
                assert_eq!(answer.status, status, "{role:?} {path} {:?}", answer.body);
            }
        }
        // What that server would read otherwise than it was asked about here.
        for (method, path) in [
            (
                Method::PUT,
                format!("{store}/artifacts/1/{RUN}/artifacts/model%252Fx"),
            ),
            (
                Method::POST,
                format!("{own}?run_uuid={RUN}&path=model%252Fx"),
            ),
            (
                Method::POST,
                format!("{own}?run_id=another&run_uuid={RUN}&path=other"),
            ),
        ] {
            let caller = Identity::Key {
                id: "k".to_owned(),
                name: "k".to_owned(),
                role: Role::Runner,
            };
            let answer = server.send_as(caller, method, &path, "x".to_owned()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
}

#[tokio::test]
async fn a_file_that_comes_torn_is_an_error() {
    let upstream = Upstream::start();
    for server in both(&upstream.url).await {
        let read = async |folder: &str| {
            let file = Location::root()
                .join(folder)
                .unwrap()
                .join("MLmodel")
                .unwrap();
            server.tracking.artifacts().read(&file, 100).await
        };
        assert_eq!(read("1").await.unwrap(), "hello");
        assert!(read("torn").await.is_err());
        let missing = Location::root().join("1/other").unwrap();
        let missing = server.tracking.artifacts().read(&missing, 100).await;
        assert!(matches!(
            missing,
            Err(tracking::Error::ArtifactNotFound { .. })
        ));
    }
}
