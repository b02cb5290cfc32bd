//! Mistakes that were published of MLflow's sign-in and gateway, of BentoML and of servers in the open:
//! the rows 7, 26, 27, 35 and 37 of docs/security.md.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use axum::body::Body;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::server::{asgard, code, run, stderr, stdout};
use crate::site::{Site, request};

async fn sign_in(site: &Site, authorization: &str) -> StatusCode {
    let sent = request("GET", "/mlops/status").header("authorization", authorization);
    site.send(sent.body(Body::empty()).unwrap()).await.status
}

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

#[tokio::test]
async fn row_7_an_empty_or_short_secret_opens_nothing() {
    let site = Site::new().await;
    for secret in ["", " ", "a", "asg_", "null", "undefined"] {
        for authorization in [
            format!("Bearer {secret}"),
            basic(&format!("admin:{secret}")),
            basic(secret),
        ] {
            let status = sign_in(&site, &authorization).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{authorization:?}");
        }
    }
}

#[test]
fn row_7_an_empty_or_short_secret_starts_nothing() {
    let home = tempfile::tempdir().unwrap();
    for secret in ["", "a", "0123456789abcdef"] {
        let refused = asgard(home.path())
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("ASGARD__SERVER__SECRET_KEY", secret)
            .output()
            .unwrap();
        assert_eq!(code(&refused), 1, "{secret:?}");
        let told = stderr(&refused);
        assert!(told.contains("server.secret_key must be"), "{told}");
    }
}

/// A pickle that would run `id`.
const PICKLE: &[u8] = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.";

#[tokio::test]
async fn row_26_no_content_type_makes_a_body_more_than_data() {
    let site = Site::new().await;
    for kind in [
        "application/vnd.bentoml+pickle",
        "application/x-pickle",
        "application/octet-stream",
        "application/x-python-serialize",
        "application/vnd.apache.arrow.stream",
        "application/json; charset=pickle",
        "application/json",
        "text/plain",
        "",
    ] {
        for path in [
            "/mlops/inference",
            "/mlops/training/upload",
            "/mlops/deploy",
        ] {
            let sent = request("POST", path)
                .header("content-type", kind)
                .header("bento-name", "x")
                .header("payload-container", "PickleDataContainer");
            let answer = site.send_locally(sent.body(Body::from(PICKLE)).unwrap());
            let answer = answer.await;
            assert!(
                answer.status.is_client_error(),
                "{kind:?} {path}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn row_27_a_multipart_body_without_measure_is_refused() {
    let site = Site::new().await;
    let boundary = "-".repeat(60_000);
    let parts = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n".repeat(20_000);
    for path in [
        "/mlops/inference",
        "/mlops/training/upload",
        "/mlops/deploy",
        "/mlops/keys",
        "/api/2.0/mlflow/runs/create",
        "/api/2.0/mlflow/runs/log-batch",
        "/api/2.0/mlflow-artifacts/mpu/create/0/x",
        "/v1/traces",
        "/graphql",
    ] {
        for (kind, body) in [
            (
                format!("multipart/form-data; boundary={boundary}"),
                boundary.clone(),
            ),
            ("multipart/form-data; boundary=x".to_owned(), parts.clone()),
            ("multipart/form-data".to_owned(), parts.clone()),
        ] {
            let sent = request("POST", path).header("content-type", kind);
            let answer = site
                .send_locally(sent.body(Body::from(body)).unwrap())
                .await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn row_35_no_login_is_there_from_the_beginning() {
    let site = Site::new().await;
    for login in [
        "admin:password",
        "admin:password1234",
        "admin:admin",
        "mlflow:mlflow",
        "asgard:asgard",
        "root:root",
    ] {
        let status = sign_in(&site, &basic(login)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{login}");
    }
    assert!(site.platform.keys.list().await.unwrap().is_empty());
}

#[test]
fn row_35_each_server_makes_keys_of_its_own_and_ships_none() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let keys = homes.each_ref().map(|home| {
        let made = run(
            home.path(),
            &["keys", "create", "--name", "a", "--role", "admin"],
        );
        assert_eq!(code(&made), 0, "{}", stderr(&made));
        stdout(&made).trim().to_owned()
    });
    assert_ne!(keys[0], keys[1]);
    assert!(keys[0].len() > 40, "256 bits and an id");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["deploy", "examples"] {
        for file in files(&root.join(folder)) {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            let found = [
                "stringData",
                "asg_",
                "AKIA",
                "BEGIN PRIVATE KEY",
                "password1234",
            ]
            .into_iter()
            .find(|word| text.contains(word));
            assert_eq!(found, None, "{}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

#[tokio::test]
async fn row_37_no_address_of_a_provider_is_asked() {
    let site = Site::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let body = serde_json::json!({"gateway_path": url, "request_type": "GET", "json_data": {}});
    for prefix in ["/api", "/ajax-api"] {
        for method in ["GET", "POST"] {
            let path = format!("{prefix}/2.0/mlflow/gateway-proxy?gateway_path={url}");
            let sent = request(method, &path).header("content-type", "application/json");
            let sent = sent.body(Body::from(body.to_string())).unwrap();
            site.send_locally(sent).await;
        }
        let endpoint = format!("{prefix}/3.0/mlflow/gateway/endpoints/create");
        let sent = request("POST", &endpoint).header("content-type", "application/json");
        let sent = sent.body(Body::from(body.to_string())).unwrap();
        assert_eq!(site.send_locally(sent).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
