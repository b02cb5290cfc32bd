//! Artifacts in a bucket: a real S3 server that checks every signature.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tracking::PresignedUrls;
use web::Identity;
use web::testing::{Answer, request};

use crate::server::{Server, in_bucket, job};

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Bytes that are not the same everywhere.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 / 7 % 251) as u8).collect()
}

async fn get(server: &Server, path: &str) -> Answer {
    server.send(Method::GET, path, Body::empty()).await
}

#[tokio::test]
async fn files_of_any_size_go_into_the_bucket_and_come_back() {
    let (server, bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let run = server.run(None).await;
    let root = format!("0/{}/artifacts", run.run_id);
    // Below, at and above what goes up as one part.
    for (name, size) in [
        ("empty", 0),
        ("small", 10),
        ("a b/100%.é#?.bin", 40_000_000),
    ] {
        let file = format!(
            "{PROXY}/{root}/{}",
            name.replace('%', "%25")
                .replace(' ', "%20")
                .replace('é', "%C3%A9")
                .replace('#', "%23")
                .replace('?', "%3F")
        );
        let sent = content(size);
        let put = server.send(Method::PUT, &file, sent.clone()).await;
        assert_eq!(put.status, StatusCode::OK, "{name}: {:?}", put.body);
        let got = get(&server, &file).await;
        assert_eq!(got.status, StatusCode::OK, "{name}");
        assert!(got.body == sent, "{name}");
        assert!(
            bucket
                .folder()
                .join("team/x")
                .join(&root)
                .join(name)
                .is_file(),
            "{name}"
        );
    }
    let listed = get(&server, &format!("{PROXY}?path={root}")).await.ok();
    assert_eq!(
        listed["files"],
        json!([
            {"path": "a b", "is_dir": true},
            {"path": "empty", "is_dir": false, "file_size": 0},
            {"path": "small", "is_dir": false, "file_size": 10},
        ])
    );
    for nothing in ["small", "missing"] {
        let listed = get(&server, &format!("{PROXY}?path={root}/{nothing}"))
            .await
            .ok();
        assert_eq!(listed, json!({}), "{nothing}");
    }
    let deleted = server
        .send(Method::DELETE, &format!("{PROXY}/{root}"), Body::empty())
        .await;
    assert_eq!(deleted.ok(), json!({}));
    let listed = get(&server, &format!("{PROXY}?path={root}")).await.ok();
    assert_eq!(listed, json!({}));
    let missing = get(&server, &format!("{PROXY}/{root}/small")).await;
    assert_eq!(missing.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
}

#[tokio::test]
async fn a_part_of_a_file_in_the_bucket_may_be_asked_for() {
    let (server, _bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let file = format!("{PROXY}/0/data.bin");
    server.send(Method::PUT, &file, "0123456789").await;
    let ask = async |range: &str| {
        let request = Request::get(&file).header(header::RANGE, range);
        server
            .ask(Identity::Local, request.body(Body::empty()).unwrap())
            .await
    };
    let part = ask("bytes=2-4").await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body, "234");
    assert_eq!(part.header(header::CONTENT_RANGE), "bytes 2-4/10");
    assert_eq!(ask("bytes=-3").await.body, "789");
    let refused = ask("bytes=10-").await;
    assert_eq!(refused.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(refused.header(header::CONTENT_RANGE), "bytes */10");
}

async fn send_part(credential: &Value, part: &[u8]) -> Value {
    let url = credential["url"].as_str().unwrap();
    let put = reqwest::Client::new().put(url).body(part.to_vec());
    let put = put.send().await.unwrap();
    assert_eq!(put.status(), 200, "{}", put.text().await.unwrap());
    let etag = put.headers()["etag"].to_str().unwrap().to_owned();
    json!({"part_number": credential["part_number"], "etag": etag})
}

#[tokio::test]
async fn a_client_sends_the_parts_of_a_file_to_the_bucket_itself() {
    let (server, _bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let run = server.run(None).await;
    let folder = format!("0/{}/artifacts/model", run.run_id);
    let sent = content(6 * 1024 * 1024);
    let (first, second) = sent.split_at(5 * 1024 * 1024);

    // A client of 2.x sends the file's path on its own disk.
    let create = json!({"path": "/home/me/model.pkl", "num_parts": "2"});
    let begun = server
        .proxy(&format!("mpu/create/{folder}"), create)
        .await
        .ok();
    let credentials = begun["credentials"].as_array().unwrap();
    assert_eq!(credentials.len(), 2);
    let parts = [
        send_part(&credentials[1], second).await,
        send_part(&credentials[0], first).await,
    ];
    let file = format!("{PROXY}/{folder}/model.pkl");
    assert_eq!(get(&server, &file).await.status, StatusCode::NOT_FOUND);
    let complete = json!({"path": "model.pkl", "upload_id": begun["upload_id"], "parts": parts});
    let path = format!("mpu/complete/{folder}");
    assert_eq!(server.proxy(&path, complete.clone()).await.ok(), json!({}));
    assert!(get(&server, &file).await.body == sent);

    let url = format!("/api/2.0/mlflow-artifacts/presigned/{folder}/model.pkl");
    let presigned = get(&server, &url).await.ok();
    assert_eq!(presigned["file_size"], sent.len());
    assert_eq!(presigned["headers"], json!({}));
    let direct = reqwest::get(presigned["url"].as_str().unwrap())
        .await
        .unwrap();
    assert_eq!(direct.status(), 200);
    assert!(direct.bytes().await.unwrap() == sent);
    let forged = presigned["url"]
        .as_str()
        .unwrap()
        .replace("model.pkl", "other.pkl");
    assert_eq!(reqwest::get(forged).await.unwrap().status(), 403);

    let again = server.proxy(&path, complete).await;
    assert!(
        [400, 404].contains(&again.status.as_u16()),
        "{:?}",
        again.body
    );
    let missing = get(&server, "/api/2.0/mlflow-artifacts/presigned/0/nothing").await;
    assert_eq!(missing.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
}

#[tokio::test]
async fn a_multipart_upload_that_makes_no_sense_is_refused() {
    let (server, _bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let id = server
        .proxy("mpu/create/0", json!({"path": "f", "num_parts": 1}))
        .await
        .ok()["upload_id"]
        .clone();
    let part = |number: i64, etag: &str| json!([{"part_number": number, "etag": etag}]);
    for (step, body) in [
        ("create", json!({"path": "f", "num_parts": 0})),
        ("create", json!({"path": "f", "num_parts": 10_001})),
        ("create", json!({"path": "..", "num_parts": 1})),
        ("create", json!({"path": "a\\..", "num_parts": 1})),
        ("create", json!({"path": "a%2f..%2f..", "num_parts": 1})),
        ("create", json!({"num_parts": 1})),
        (
            "complete",
            json!({"path": "f", "upload_id": id, "parts": []}),
        ),
        (
            "complete",
            json!({"path": "f", "upload_id": id, "parts": part(2, "e")}),
        ),
        (
            "complete",
            json!({"path": "f", "upload_id": id, "parts": part(1, "")}),
        ),
        (
            "complete",
            json!({"path": "f", "upload_id": "../x", "parts": part(1, "e")}),
        ),
        ("abort", json!({"path": "f"})),
        ("abort", json!({"path": "f", "upload_id": "no-such-upload"})),
    ] {
        let answer = server.proxy(&format!("mpu/{step}/0"), body.clone()).await;
        let status = answer.status.as_u16();
        assert!(
            [400, 404].contains(&status),
            "{step} {body}: {status} {:?}",
            answer.body
        );
    }
    let aborted = server
        .proxy("mpu/abort/0", json!({"path": "f", "upload_id": id}))
        .await;
    assert_eq!(aborted.ok(), json!({}));
}

#[tokio::test]
async fn runs_and_models_give_signed_urls_for_their_files() {
    let (server, _bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let run = server.run(None).await;
    let about = |expiration: i64| json!({"run_id": run.run_id, "path": "a/b.txt", "expiration": expiration});
    let upload = server
        .post("artifacts/presigned-upload-url", about(60))
        .await
        .ok();
    let put = reqwest::Client::new().put(upload["presigned_url"].as_str().unwrap());
    assert_eq!(put.body("hello").send().await.unwrap().status(), 200);
    let download = server
        .post("artifacts/presigned-download-url", about(60))
        .await
        .ok();
    assert_eq!(download["file_size"], 5);
    let read = reqwest::get(download["presigned_url"].as_str().unwrap())
        .await
        .unwrap();
    assert_eq!(read.text().await.unwrap(), "hello");
    for wrong in [0, -1, 604_801] {
        let refused = server
            .post("artifacts/presigned-upload-url", about(wrong))
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for wrong in [
        json!({"path": "x"}),
        json!({"run_id": run.run_id}),
        json!({"run_id": run.run_id, "model_id": "m", "path": "x"}),
        json!({"run_id": run.run_id, "path": "../x"}),
    ] {
        let refused = server
            .post("artifacts/presigned-upload-url", wrong.clone())
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_job_sends_its_files_through_the_server() {
    let (server, _bucket) = in_bucket(PresignedUrls::Advertised).await;
    let run = server.run(Some("job-1")).await;
    let folder = format!("0/{}/artifacts", run.run_id);
    let path = format!("/api/2.0/mlflow-artifacts/mpu/create/{folder}");
    let create = request(
        Method::POST,
        &path,
        Some(&json!({"path": "f", "num_parts": 1})),
    );
    assert_eq!(
        server.ask(job("job-1"), create).await.error(),
        (501, "NOT_IMPLEMENTED".to_owned())
    );
    // What it may not write it may not begin to write.
    let create = request(
        Method::POST,
        &path,
        Some(&json!({"path": "f", "num_parts": 1})),
    );
    assert_eq!(
        server.ask(job("job-2"), create).await.status,
        StatusCode::FORBIDDEN
    );
    let info = async |caller: Identity| {
        let path = "/api/3.0/mlflow/server-info";
        server
            .send_as(caller, Method::GET, path, Body::empty())
            .await
            .ok()
    };
    assert_eq!(info(job("job-1")).await["multipart_uploads_enabled"], false);
    assert_eq!(
        info(Identity::Local).await["multipart_uploads_enabled"],
        true
    );
    assert_eq!(
        info(Identity::Local).await["multipart_downloads_enabled"],
        true
    );
}

#[tokio::test]
async fn signed_urls_can_be_switched_off() {
    let (server, _bucket) = in_bucket(PresignedUrls::Off).await;
    let refused = server.proxy("mpu/create/0", json!({"path": "f"})).await;
    assert_eq!(refused.error(), (501, "NOT_IMPLEMENTED".to_owned()));
    let info = get(&server, "/api/3.0/mlflow/server-info").await.ok();
    assert_eq!(info["multipart_uploads_enabled"], false);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_in_the_bucket() {
    let (server, bucket) = in_bucket(PresignedUrls::OnRequest).await;
    let piece = Bytes::from(content(1024 * 1024));
    let whole = (0..40).map(move |_| Ok(piece.clone()));
    let broken = whole.chain([Err(std::io::Error::other("the client went away"))]);
    let body = Body::from_stream(futures_util::stream::iter(broken));
    let put = server
        .send(Method::PUT, &format!("{PROXY}/0/f"), body)
        .await;
    assert_eq!(put.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        get(&server, &format!("{PROXY}/0/f")).await.status,
        StatusCode::NOT_FOUND
    );
    // Parts are kept beside the bucket's folder until the upload is completed or aborted.
    let parts = || {
        std::fs::read_dir(bucket.folder().parent().unwrap())
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(".upload"))
            .count()
    };
    let since = Instant::now();
    while parts() > 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "parts are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_bucket_that_refuses_or_is_away_is_no_fault_of_the_client() {
    let (server, bucket) = in_bucket(PresignedUrls::OnRequest).await;
    drop(bucket);
    let put = server.send(Method::PUT, &format!("{PROXY}/0/f"), "x").await;
    assert_eq!(put.error(), (503, "TEMPORARILY_UNAVAILABLE".to_owned()));
    let message = put.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("asgard doctor"), "{message}");
}
