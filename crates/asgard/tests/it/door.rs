//! What a request from a foreign page or to a foreign name gets.

use axum::body::Body;
use axum::http::StatusCode;

use crate::site::{Site, get, request};

#[tokio::test]
async fn a_request_to_a_foreign_host_is_refused_with_every_method() {
    let site = Site::new().await;
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:8000",
        "10.0.0.7:8000",
    ] {
        for (method, path) in [
            ("GET", "/mlops/status"),
            ("POST", "/mlops/training/upload"),
            ("DELETE", "/mlops/keys/x"),
            ("GET", "/api/2.0/mlflow/experiments/search"),
        ] {
            let mut foreign = request(method, path).body(Body::empty()).unwrap();
            foreign.headers_mut().insert("host", host.parse().unwrap());
            let answer = site.send_locally(foreign).await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {path} at {host}"
            );
        }
    }
    for host in ["localhost:8000", "127.0.0.1", "[::1]:9"] {
        let mut own = get("/mlops/status");
        own.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(
            site.send_locally(own).await.status,
            StatusCode::OK,
            "{host}"
        );
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_with_any_method() {
    let site = Site::new().await;
    let foreign = [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:9999"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for (header, value) in foreign {
            // A browser's user agent is no reason for or against: it can be anything.
            let sent = request(method, "/mlops/keys")
                .header(header, value)
                .header("user-agent", "curl/8")
                .body(Body::empty());
            let answer = site.send_locally(sent.unwrap()).await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{method} {header}: {value}"
            );
            assert_eq!(answer.json()["code"], "cross_site");
        }
    }
    let own = request("POST", "/mlops/keys")
        .header("origin", "http://127.0.0.1:8000")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"name": "page", "role": "viewer"}"#));
    assert_eq!(
        site.send_locally(own.unwrap()).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_form_that_a_page_could_send_is_not_read_as_json() {
    let site = Site::new().await;
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "multipart/form-data",
    ] {
        let sent = request("POST", "/mlops/keys")
            .header("content-type", content_type)
            .body(Body::from(r#"{"name": "form", "role": "admin"}"#));
        let answer = site.send_locally(sent.unwrap()).await;
        assert_eq!(
            answer.status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{content_type}"
        );
        assert!(answer.text().contains("Content-Type: application/json"));
    }
}

#[tokio::test]
async fn pages_run_no_inline_script_and_sit_in_no_foreign_frame() {
    let site = Site::new().await;
    for path in ["/", "/docs"] {
        let answer = site.send(get(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
        assert!(!policy.contains("script-src 'unsafe-inline'"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let page = answer.text();
        assert!(
            !page.contains("<script>") && !page.contains("http://") && !page.contains("https://"),
            "{path} loads something from elsewhere or inline"
        );
    }
}

#[tokio::test]
async fn every_file_of_the_documentation_comes_from_this_server() {
    let site = Site::new().await;
    let page = site.send(get("/docs")).await.text();
    let files: Vec<&str> = page
        .split(['"', '\''])
        .filter(|part| part.starts_with("/docs/"))
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert_eq!(site.send(get(file)).await.status, StatusCode::OK, "{file}");
    }
    let missing = site.send(get("/docs/../asgard.db")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}
