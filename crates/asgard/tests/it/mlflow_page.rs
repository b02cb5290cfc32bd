//! MLflow's own page: absent, installed, and what stands before it.

use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::StatusCode;

use crate::server::{Server, code, run, stderr, unused_address};
use crate::site::{Site, get, request};

fn install(data_dir: &Path) {
    let build = data_dir.join("tools/mlflow-ui/build");
    fs::create_dir_all(build.join("static/js")).unwrap();
    fs::write(build.join("index.html"), "<!doctype html>the page").unwrap();
    fs::write(build.join("static/js/main.00d66947.js"), "script()").unwrap();
}

#[tokio::test]
async fn an_absent_page_says_how_to_install_it_and_appears_without_a_restart() {
    let site = Site::new().await;
    let absent = site.send_locally(get("/mlflow/")).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert!(absent.text().contains("asgard mlflow-ui install"));
    let file = site.send_locally(get("/mlflow/static-files/a.js")).await;
    assert!(file.text().contains("asgard mlflow-ui install"));

    install(site.dir.path());
    let page = site.send_locally(get("/mlflow/")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.text(), "<!doctype html>the page");
    assert_eq!(page.headers["cache-control"], "no-cache");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && policy.contains("connect-src 'self'"));
    let again = request("GET", "/mlflow/")
        .header("if-none-match", &page.headers["etag"])
        .body(Body::empty());
    let again = site.send_locally(again.unwrap()).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert!(again.body.is_empty());

    let to = site.send_locally(get("/mlflow")).await;
    assert_eq!(to.headers["location"], "mlflow/");
}

#[tokio::test]
async fn only_files_of_the_page_are_served() {
    let site = Site::new().await;
    install(site.dir.path());
    let script = "/mlflow/static-files/static/js/main.00d66947.js";
    let script = site.send_locally(get(script)).await;
    assert_eq!(script.text(), "script()");
    assert!(
        script.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(
        script.headers["content-type"],
        "text/javascript; charset=utf-8"
    );
    let refused = StatusCode::BAD_REQUEST;
    let absent = StatusCode::NOT_FOUND;
    for (path, status) in [
        ("../../../asgard.db", absent),
        ("..%2f..%2f..%2fasgard.db", absent),
        ("%2e%2e/%2e%2e/%2e%2e/asgard.db", absent),
        ("static/js/../../../../../asgard.db", absent),
        ("/etc/passwd", absent),
        ("%2fetc%2fpasswd", absent),
        ("static", absent),
        ("a%00b", refused),
        ("static\\js", absent),
    ] {
        let answer = site
            .send_locally(get(&format!("/mlflow/static-files/{path}")))
            .await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_page_asks_below_itself_through_the_same_door() {
    let site = Site::new().await;
    install(site.dir.path());
    let path = "/mlflow/ajax-api/2.0/mlflow/experiments/get?experiment_id=0";
    let answer = site.send_locally(get(path)).await;
    assert_eq!(answer.json()["experiment"]["name"], "Default");
    for path in ["/mlflow/", "/mlflow/static-files/index.html", path] {
        assert_eq!(
            site.send(get(path)).await.status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    // Chromium asks for a password only by a line that is Basic's alone.
    let refused = site.send(get("/mlflow/")).await;
    let challenges = refused.headers.get_all("www-authenticate");
    let challenges: Vec<&str> = challenges.iter().map(|c| c.to_str().unwrap()).collect();
    assert_eq!(challenges, ["Bearer", "Basic realm=\"asgard\""]);
    let mut foreign = get(path);
    foreign
        .headers_mut()
        .insert("host", "evil.example".parse().unwrap());
    assert_eq!(
        site.send_locally(foreign).await.status,
        StatusCode::FORBIDDEN
    );
    for (header, value) in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let sent = request("POST", "/mlflow/ajax-api/2.0/mlflow/experiments/create")
            .header(header, value)
            .header("content-type", "application/json")
            .body(Body::from(r#"{"name": "x"}"#));
        let answer = site.send_locally(sent.unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{header}");
    }
    // What is asgard's own has no second name.
    for path in ["/mlflow/mlops/status", "/mlflow/metrics", "/mlflow/docs"] {
        let answer = site.send_locally(get(path)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let unknown = site
        .send_locally(get("/mlflow/ajax-api/2.0/mlflow/x"))
        .await;
    assert_eq!(unknown.json()["error_code"], "ENDPOINT_NOT_FOUND");
}

#[test]
fn the_page_is_at_the_root_of_the_second_address() {
    let home = tempfile::tempdir().unwrap();
    install(&home.path().join(".local/share/asgard"));
    let second = unused_address();
    let mut server = Server::start(home.path(), &["--mlflow-listen", &second]);
    assert!(server.get("/").contains("asgard is running"));
    assert!(server.get("/mlflow/").contains("the page"));
    server.url = format!("http://{second}");
    assert!(server.get("/").contains("the page"));
    assert!(
        server
            .get("/static-files/static/js/main.00d66947.js")
            .contains("script()")
    );
    let experiment = "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0";
    assert!(server.get(experiment).contains("Default"));
}

#[test]
fn a_setting_that_leads_to_no_page_stops_the_start() {
    let home = tempfile::tempdir().unwrap();
    let text = format!("[tracking]\nmlflow_ui = {:?}\n", home.path());
    fs::write(home.path().join("asgard.toml"), text).unwrap();
    let refused = run(home.path(), &["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("tracking.mlflow_ui"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn a_version_that_is_none_is_refused_before_anything_is_fetched() {
    let home = tempfile::tempdir().unwrap();
    for version in ["3.18.0 --index-url x", "latest", ""] {
        let refused = run(home.path(), &["mlflow-ui", "install", "--version", version]);
        assert_eq!(code(&refused), 2, "{version}: {}", stderr(&refused));
    }
}
