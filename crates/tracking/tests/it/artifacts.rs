//! Artifacts: the proxy, the listings, and what may not be reached through them.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::json;
use web::Identity;

use crate::server::{both, job};

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

#[tokio::test]
async fn a_file_goes_up_and_comes_down_with_its_headers() {
    for server in both().await {
        let run = server.run(None).await;
        let file = format!("{PROXY}/0/{}/artifacts/model/conda%20env.yaml", run.run_id);
        let put = server.send(Method::PUT, &file, "name: x").await;
        assert_eq!((put.status, put.body.len()), (StatusCode::OK, 0));

        for prefix in ["/api", "/ajax-api"] {
            let twin = file.replacen("/api", prefix, 1);
            let got = server.send(Method::GET, &twin, Body::empty()).await;
            assert_eq!(got.status, StatusCode::OK, "{}", server.name);
            assert_eq!(got.body, "name: x");
            assert_eq!(got.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(got.header(header::CONTENT_TYPE), "text/plain");
            assert_eq!(got.header(header::CONTENT_LENGTH), "7");
            assert!(
                got.header(header::CONTENT_DISPOSITION)
                    .starts_with("attachment; filename=\"conda env.yaml\"")
            );
        }
    }
}

#[tokio::test]
async fn a_part_of_a_file_may_be_asked_for() {
    let [server, _] = both().await;
    let file = format!("{PROXY}/0/data.bin");
    server.send(Method::PUT, &file, "0123456789").await;
    let ask = async |range: &str| {
        let request = Request::get(&file).header(header::RANGE, range);
        let request = request.body(Body::empty()).unwrap();
        server.ask(Identity::Local, request).await
    };
    let part = ask("bytes=2-4").await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body, "234");
    assert_eq!(part.header(header::CONTENT_RANGE), "bytes 2-4/10");
    assert_eq!(ask("bytes=-3").await.body, "789");
    assert_eq!(ask("bytes=8-99").await.body, "89");
    assert_eq!(ask("bytes=0-1,4-5").await.body, "0123456789");
    for beyond in ["bytes=10-", "bytes=-0"] {
        let refused = ask(beyond).await;
        assert_eq!(refused.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(refused.header(header::CONTENT_RANGE), "bytes */10");
    }
}

#[tokio::test]
async fn listings_are_relative_to_the_folder_or_to_the_run() {
    for server in both().await {
        let run = server.run(None).await;
        let root = format!("0/{}/artifacts", run.run_id);
        for path in ["model/MLmodel", "notes.txt"] {
            let file = format!("{PROXY}/{root}/{path}");
            server.send(Method::PUT, &file, "12345").await;
        }
        let list = async |path: &str| server.send(Method::GET, path, Body::empty()).await.ok();
        assert_eq!(
            list(&format!("{PROXY}?path={root}/model")).await,
            json!({"files": [{"path": "MLmodel", "is_dir": false, "file_size": 5}]})
        );
        assert_eq!(
            list(&format!("{PROXY}?path={root}")).await["files"][0],
            json!({"path": "model", "is_dir": true})
        );
        for id in ["run_id", "run_uuid"] {
            let listed = server
                .get(&format!("artifacts/list?{id}={}&path=model", run.run_id))
                .await
                .ok();
            assert_eq!(
                listed,
                json!({
                    "root_uri": format!("mlflow-artifacts:/{root}"),
                    "files": [{"path": "model/MLmodel", "is_dir": false, "file_size": 5}],
                })
            );
        }
        for nothing in ["missing", "notes.txt"] {
            let listed = list(&format!("{PROXY}?path={root}/{nothing}")).await;
            assert_eq!(listed, json!({}), "{nothing}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_a_json_404_and_may_be_deleted() {
    let [server, _] = both().await;
    let run = server.run(None).await;
    let missing = format!("{PROXY}/0/{}/artifacts/model/MLmodel", run.run_id);
    let got = server.send(Method::GET, &missing, Body::empty()).await;
    assert_eq!(got.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
    let deleted = server.send(Method::DELETE, &missing, Body::empty()).await;
    assert_eq!(deleted.ok(), json!({}));

    let page = format!("/get-artifact?run_uuid={}&path=notes.txt", run.run_id);
    let got = server.send(Method::GET, &page, Body::empty()).await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    let file = format!("{PROXY}/0/{}/artifacts/notes.txt", run.run_id);
    server.send(Method::PUT, &file, "hello").await;
    let got = server.send(Method::GET, &page, Body::empty()).await;
    assert_eq!(got.body, "hello");
}

#[tokio::test]
async fn no_path_leads_out_of_the_store() {
    let [server, _] = both().await;
    let secret = server.dir.path().join("secret.txt");
    std::fs::write(&secret, "secret").unwrap();
    for path in [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "%2e%2e%2fsecret.txt",
        "%252e%252e%252fsecret.txt",
        "%25252e%25252e/secret.txt",
        "0/../../secret.txt",
        "..%5csecret.txt",
        "0%5c..%5c..%5csecret.txt",
        "..;/secret.txt",
        "0/..%00/secret.txt",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "C:%5csecret.txt",
        "C:/secret.txt",
        "%c0%ae%c0%ae/secret.txt",
        "file:%2f%2f%2fetc%2fpasswd",
        ".uploads/x",
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let url = format!("{PROXY}/{path}");
            let answer = server.send(method.clone(), &url, "owned").await;
            assert_eq!(answer.error().0, 400, "{method} {path}");
            assert!(
                answer.json()["message"]
                    .as_str()
                    .unwrap()
                    .starts_with("Invalid path"),
                "{method} {path}"
            );
        }
        if path.starts_with("%c0") {
            // A query that is no UTF-8 is read with replacement characters: a harmless name.
            continue;
        }
        let url = format!("{PROXY}?path={path}");
        let listed = server.send(Method::GET, &url, Body::empty()).await;
        assert_eq!(listed.status, StatusCode::BAD_REQUEST, "list {path}");
    }
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
}

#[tokio::test]
async fn a_job_writes_only_below_its_own_runs_and_models() {
    for server in both().await {
        let own = server.run(Some("job-1")).await;
        let other = server.run(Some("job-2")).await;
        let nobodys = server.run(None).await;
        let file = |run: &tracking::Run| format!("{PROXY}/0/{}/artifacts/f", run.run_id);
        let fake = format!("{PROXY}/9/{}/artifacts/f", own.run_id);
        let loose = format!("{PROXY}/0/f");
        for (path, allowed) in [
            (file(&own), true),
            (file(&other), false),
            (file(&nobodys), false),
            (fake, false),
            (loose, false),
        ] {
            for method in [Method::PUT, Method::DELETE] {
                let answer = server.send_as(job("job-1"), method, &path, "x").await;
                let expected = if allowed { 200 } else { 403 };
                assert_eq!(answer.status.as_u16(), expected, "{} {path}", server.name);
            }
        }
        // Reading is free: a job may start from another one's model.
        server.send(Method::PUT, &file(&other), "weights").await;
        let read = server
            .send_as(job("job-1"), Method::GET, &file(&other), Body::empty())
            .await;
        assert_eq!(read.body, "weights");
    }
}

#[tokio::test]
async fn clients_learn_that_files_go_up_in_one_request() {
    let [server, _] = both().await;
    for (step, body) in [
        ("create", json!({"path": "x", "num_parts": 2})),
        (
            "complete",
            json!({"path": "x", "upload_id": "u", "parts": [{"part_number": 1, "etag": "e"}]}),
        ),
        ("abort", json!({"path": "x", "upload_id": "u"})),
    ] {
        let path = format!("mpu/{step}/0");
        let answer = server.proxy(&path, body).await;
        assert_eq!(answer.error(), (501, "NOT_IMPLEMENTED".to_owned()));
        assert!(
            answer.json()["message"]
                .as_str()
                .unwrap()
                .starts_with("Multipart upload is not supported"),
        );
    }
    let path = "/api/2.0/mlflow-artifacts/presigned/0/x";
    let answer = server.send(Method::GET, path, Body::empty()).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
    let run = server.run(None).await;
    for route in ["presigned-download-url", "presigned-upload-url"] {
        let body = json!({"run_id": run.run_id, "path": "x"});
        let answer = server.post(&format!("artifacts/{route}"), body).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
    }
}
