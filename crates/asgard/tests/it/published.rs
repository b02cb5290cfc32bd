//! Mistakes that were published of MLflow's artifact routes, tried here one by one: the rows 1 to
//! 6 and 14 to 17 of the security specification.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use web::Identity;
use web::testing::Answer;

use crate::site::{Site, request};

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Ways out of a folder, as a path that is not encoded.
const WAYS_OUT: &[&str] = &[
    "../x",
    "a/../../x",
    "..\\x",
    "a\\..\\..\\x",
    "a/..\\../x",
    "%2e%2e/x",
    "%2e%2e%2fx",
    "%252e%252e%252fx",
    "..%5cx",
    "%5c..%5cx",
    "C:/x",
    "C:\\x",
    "c:x",
    "/etc/passwd",
    "..;/x",
    "a;/../x",
    "file:///etc/passwd",
];

/// The ways out of a folder from inside one: there a colon is part of a name.
fn below() -> impl Iterator<Item = &'static str> {
    let ways = WAYS_OUT.iter().copied();
    ways.filter(|way| !["C:/x", "c:x"].contains(way))
}

async fn post_as(site: &Site, caller: Identity, path: &str, body: &Value) -> Answer {
    let sent = request("POST", path).header("content-type", "application/json");
    let sent = sent.body(Body::from(body.to_string())).unwrap();
    site.send_as(caller, sent).await
}

async fn mlflow(site: &Site, path: &str, body: Value) -> Answer {
    let path = format!("/api/2.0/mlflow/{path}");
    post_as(site, Identity::Local, &path, &body).await
}

async fn send(site: &Site, method: &str, path: &str, body: &'static str) -> Answer {
    let sent = request(method, path).body(Body::from(body)).unwrap();
    site.send_locally(sent).await
}

/// A run in the default experiment, made by a job or by nobody.
async fn run(site: &Site, job: Option<&str>) -> String {
    let caller = job.map_or(Identity::Local, |job_id| Identity::Job {
        job_id: job_id.to_owned(),
    });
    let path = "/api/2.0/mlflow/runs/create";
    let made = post_as(site, caller, path, &json!({"experiment_id": "0"})).await;
    made.json()["run"]["info"]["run_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn model(site: &Site, name: &str) {
    let made = mlflow(site, "registered-models/create", json!({"name": name})).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
}

/// Places where a version must not come from.
fn foreign_sources(run_id: &str) -> Vec<String> {
    let own = format!("mlflow-artifacts:/0/{run_id}/artifacts");
    let mut sources = vec![
        "/etc".to_owned(),
        "file:///etc".to_owned(),
        "file:/etc/passwd".to_owned(),
        "file://localhost/etc".to_owned(),
        "FILE:///etc".to_owned(),
        "./relative".to_owned(),
        "mlflow-artifacts:/".to_owned(),
        "mlflow-artifacts:/0".to_owned(),
        "mlflow-artifacts://elsewhere/0".to_owned(),
        format!("runs:/{run_id}/../x"),
    ];
    sources.extend(below().map(|way| format!("{own}/{way}")));
    sources
}

#[tokio::test]
async fn row_1_a_version_comes_only_from_the_store_of_its_run() {
    let site = Site::new().await;
    let run_id = run(&site, None).await;
    model(&site, "m").await;
    let link = site.artifacts().join(format!("0/{run_id}/artifacts"));
    std::fs::create_dir_all(&link).unwrap();
    std::os::unix::fs::symlink("/etc", link.join("link")).unwrap();
    for source in foreign_sources(&run_id) {
        let body = json!({"name": "m", "source": source, "run_id": run_id});
        let refused = mlflow(&site, "model-versions/create", body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{source}: {}",
            refused.text()
        );
    }
    // A link in the store is not followed, whatever a version says.
    let body = json!({"name": "m", "source": format!("runs:/{run_id}/link"), "run_id": run_id});
    mlflow(&site, "model-versions/create", body).await;
    for path in ["link/passwd", "link"] {
        let read = send(
            &site,
            "GET",
            &format!("{PROXY}/0/{run_id}/artifacts/{path}"),
            "",
        )
        .await;
        assert_eq!(read.status, StatusCode::NOT_FOUND, "{path}");
    }
    let read = send(
        &site,
        "GET",
        "/model-versions/get-artifact?name=m&version=1&path=passwd",
        "",
    )
    .await;
    assert_eq!(read.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn row_2_no_field_takes_a_relative_part_or_a_backslash() {
    let site = Site::new().await;
    let run_id = run(&site, None).await;
    model(&site, "m").await;
    for way in WAYS_OUT {
        let location = format!("mlflow-artifacts:/{way}");
        for (route, body) in [
            (
                "experiments/create",
                json!({"name": format!("e {way}"), "artifact_location": location}),
            ),
            (
                "artifacts/presigned-upload-url",
                json!({"run_id": run_id, "path": way}),
            ),
            (
                "artifacts/presigned-download-url",
                json!({"run_id": run_id, "path": way}),
            ),
        ] {
            let refused = mlflow(&site, route, body).await;
            assert_eq!(
                refused.status,
                StatusCode::BAD_REQUEST,
                "{route} {way}: {}",
                refused.text()
            );
        }
    }
    for way in below() {
        let inside = format!("mlflow-artifacts:/0/{run_id}/artifacts/{way}");
        let body = json!({"name": "m", "source": inside, "run_id": run_id});
        let refused = mlflow(&site, "model-versions/create", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{way}");
    }
}

#[tokio::test]
async fn row_3_an_encoded_delete_stays_in_the_store() {
    let site = Site::new().await;
    let run_id = run(&site, None).await;
    let kept = site.artifacts().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let mut way = format!("{run_id}/artifacts/../../../kept");
    for _ in 0..6 {
        let refused = send(&site, "DELETE", &format!("{PROXY}/0/{way}"), "").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{way}");
        way = way
            .replace('%', "%25")
            .replace("..", "%2e%2e")
            .replace('/', "%2f");
    }
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "kept");
    let whole = send(&site, "DELETE", &format!("{PROXY}/"), "").await;
    assert!(whole.status.is_client_error(), "{}", whole.status);
}

#[tokio::test]
async fn row_4_what_another_reader_would_cut_off_is_refused() {
    let site = Site::new().await;
    for path in [
        "0/a;/../x",
        "0/a%3b/../x",
        "0/..%00/x",
        "0/a%00.txt",
        "0/%c0%ae%c0%ae/x",
        "0/a%0ab",
        "0/..%3f/../x",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let refused = send(&site, method, &format!("{PROXY}/{path}"), "x").await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{method} {path}");
        }
    }
    // A question mark or a hash that is part of a name is part of the file's name.
    let put = send(&site, "PUT", &format!("{PROXY}/0/a%3fb%23c"), "x").await;
    assert_eq!(put.status, StatusCode::OK);
    assert!(site.artifacts().join("0/a?b#c").is_file());
}

#[tokio::test]
async fn row_5_a_name_is_no_path() {
    let site = Site::new().await;
    let before = tree(&site.artifacts());
    for name in WAYS_OUT.iter().chain(&["..", ".", "$(id)", "`id`", "a\nb"]) {
        mlflow(&site, "registered-models/create", json!({"name": name})).await;
        mlflow(&site, "experiments/create", json!({"name": name})).await;
        mlflow(
            &site,
            "runs/create",
            json!({"experiment_id": "0", "run_name": name}),
        )
        .await;
        mlflow(
            &site,
            "logged-models",
            json!({"experiment_id": "0", "name": name}),
        )
        .await;
    }
    model(&site, "m").await;
    for name in WAYS_OUT {
        mlflow(
            &site,
            "registered-models/rename",
            json!({"name": "m", "new_name": name}),
        )
        .await;
    }
    assert_eq!(tree(&site.artifacts()), before, "no name makes a file");
    let search = mlflow(&site, "experiments/search", json!({"max_results": 1000}))
        .await
        .json();
    for experiment in search["experiments"].as_array().unwrap() {
        let id = experiment["experiment_id"].as_str().unwrap();
        assert_eq!(
            experiment["artifact_location"],
            format!("mlflow-artifacts:/{id}")
        );
    }
}

/// All names below a folder, but for the unfinished uploads.
fn tree(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".uploads")
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn row_6_no_tag_or_header_changes_what_is_checked() {
    let site = Site::new().await;
    let run_id = run(&site, None).await;
    for (number, key) in [
        "mlflow.prompt.is_prompt",
        "_mlflow_prompt",
        "mlflow.source.type",
        "asgard.job_id",
        "mlflow.modelVersions",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("m{number}");
        let tags =
            json!([{"key": key, "value": "true"}, {"key": "mlflow.prompt.text", "value": "x"}]);
        let made = mlflow(
            &site,
            "registered-models/create",
            json!({"name": name, "tags": tags}),
        )
        .await;
        assert!(
            made.status.is_success() || made.status.is_client_error(),
            "{}",
            made.text()
        );
        for source in foreign_sources(&run_id) {
            let body = json!({"name": name, "source": source, "run_id": run_id, "tags": tags});
            let sent = request("POST", "/api/2.0/mlflow/model-versions/create")
                .header("content-type", "application/json")
                .header("x-mlflow-workspace", "other")
                .header("x-mlflow-client-version", "3.18.0")
                .header("user-agent", "mlflow-python-client/3.18.0");
            let refused = site
                .send_locally(sent.body(Body::from(body.to_string())).unwrap())
                .await;
            assert!(
                refused.status.is_client_error(),
                "{key} {source}: {}",
                refused.text()
            );
        }
    }
}

#[tokio::test]
async fn row_14_every_artifact_route_and_its_twin_asks_for_a_permission() {
    let site = Site::new().await;
    let of_files = |path: &str| path.contains("artifact");
    let routes: Vec<_> = site
        .table
        .iter()
        .filter(|route| of_files(&route.path))
        .collect();
    assert!(routes.len() > 20, "{} routes", routes.len());
    for route in routes {
        let parts = route.path.split('/');
        let parts = parts.map(|part| if part.starts_with('{') { "x" } else { part });
        let example = parts.collect::<Vec<_>>().join("/");
        let sent = request(route.method.as_str(), &example)
            .body(Body::empty())
            .unwrap();
        let refused = site.send(sent).await;
        assert_eq!(
            refused.status,
            StatusCode::UNAUTHORIZED,
            "{} {}",
            route.method,
            route.path
        );
        let Some(twin) = route.path.strip_prefix("/api/") else {
            continue;
        };
        let twin = format!("/ajax-api/{twin}");
        let found = site
            .table
            .iter()
            .find(|other| other.path == twin && other.method == route.method);
        assert_eq!(
            found.map(|other| other.permission),
            Some(route.permission),
            "{twin}"
        );
    }
}

#[tokio::test]
async fn row_15_no_job_writes_into_the_run_of_another() {
    let site = Site::new().await;
    let (own, other) = (
        run(&site, Some("job-1")).await,
        run(&site, Some("job-2")).await,
    );
    let caller = || Identity::Job {
        job_id: "job-1".to_owned(),
    };
    for (run_id, allowed) in [(&own, true), (&other, false)] {
        let folder = format!("0/{run_id}/artifacts");
        for method in ["PUT", "DELETE"] {
            let sent = request(method, &format!("{PROXY}/{folder}/f"))
                .body(Body::from("x"))
                .unwrap();
            let answer = site.send_as(caller(), sent).await;
            assert_eq!(
                answer.status.as_u16(),
                if allowed { 200 } else { 403 },
                "{method}"
            );
        }
        let about = json!({"path": "f", "num_parts": 1, "upload_id": "u", "parts": [{"part_number": 1, "etag": "e"}]});
        for step in ["create", "complete", "abort"] {
            let path = format!("/api/2.0/mlflow-artifacts/mpu/{step}/{folder}");
            let answer = post_as(&site, caller(), &path, &about).await;
            // In its own run it learns that a job sends files whole.
            assert_eq!(
                answer.status.as_u16(),
                if allowed { 501 } else { 403 },
                "{step}"
            );
        }
        let path = "/api/2.0/mlflow/artifacts/presigned-upload-url";
        let answer = post_as(
            &site,
            caller(),
            path,
            &json!({"run_id": run_id, "path": "f"}),
        )
        .await;
        assert_eq!(answer.status.as_u16(), if allowed { 501 } else { 403 });
    }
}

#[tokio::test]
async fn row_16_unfinished_files_are_nobody_elses() {
    let site = Site::new().await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let uploads = site.artifacts().join(".uploads");
    assert_eq!(mode(&uploads), 0o700);
    for own in std::fs::read_dir(&uploads).unwrap().flatten() {
        assert_eq!(mode(&own.path()), 0o700);
    }
    for path in ["../.uploads/x", ".uploads/x", "0/../.uploads/x"] {
        let refused = send(&site, "GET", &format!("{PROXY}/{path}"), "").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn row_17_an_artifact_is_never_a_page_of_this_server() {
    let site = Site::new().await;
    let run_id = run(&site, None).await;
    let script = "<script>alert(1)</script>";
    for name in [
        "x.html", "x.htm", "x.svg", "x.xml", "x.xhtml", "x.md", "x.yaml", "x.ipynb", "x.js", "x",
        "x.html;y",
    ] {
        let put = send(
            &site,
            "PUT",
            &format!("{PROXY}/0/{run_id}/artifacts/{name}"),
            script,
        )
        .await;
        if name.contains(';') {
            assert_eq!(put.status, StatusCode::BAD_REQUEST);
            continue;
        }
        for path in [
            format!("{PROXY}/0/{run_id}/artifacts/{name}"),
            format!("/ajax-api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/{name}"),
            format!("/get-artifact?run_uuid={run_id}&path={name}"),
        ] {
            let got = send(&site, "GET", &path, "").await;
            assert_eq!(got.status, StatusCode::OK, "{path}");
            let header = |name: &str| got.headers[name].to_str().unwrap();
            assert!(
                header("content-disposition").starts_with("attachment"),
                "{path}"
            );
            assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
            assert!(
                header("content-security-policy").contains("sandbox"),
                "{path}"
            );
        }
    }
}
