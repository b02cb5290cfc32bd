//! The variables of jobs lie sealed in the database.

use axum::http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use web::Identity;

use crate::server::{Server, body, both, config};

const SECRET: &str = "correct-horse-battery";

fn variables() -> Value {
    json!({"environment_vars": {"DB_PASSWORD": SECRET, "N_ESTIMATORS": "4711"}})
}

/// Uploads what the idempotency key `k` stands for.
async fn upload_once(server: &Server) -> Value {
    let mut upload = body("print(1)", variables());
    upload["idempotency_key"] = json!("k");
    let answer = server.post("/mlops/training/upload", upload).await;
    answer.expect(202)["job_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_gets_the_variables_that_no_row_shows() {
    for server in both(&config()).await {
        let script =
            "import os\nprint(os.environ['DB_PASSWORD'][::-1], os.environ['N_ESTIMATORS'])";
        let id = server.upload(script, variables()).await;
        let (request, _, sealed) = server.stored(&id).await;
        let names: Value = serde_json::from_str(&request).unwrap();
        assert_eq!(
            names["environment_vars"],
            json!(["DB_PASSWORD", "N_ESTIMATORS"])
        );
        for stored in [request, sealed.unwrap()] {
            assert!(
                !stored.contains(SECRET) && !stored.contains("4711"),
                "{stored}"
            );
        }
        let shown = json!({"DB_PASSWORD": "***", "N_ESTIMATORS": "4711"});
        assert_eq!(server.job(&id).await["environment_vars"], shown);

        let again = format!("/mlops/training/jobs/{id}/rerun");
        let again = server.post(&again, json!({})).await.expect(202);
        let worker = server.work();
        for id in [&id, again["job_id"].as_str().unwrap()] {
            let job = server.end(id).await;
            let logs = job["logs"].as_str().unwrap();
            assert!(
                logs.contains("yrettab-esroh-tcerroc 4711"),
                "{}: {logs}",
                server.name
            );
        }
        worker.stop().await;
    }
}

#[tokio::test]
async fn variables_of_earlier_versions_are_sealed_and_mean_what_they_meant() {
    for server in both(&config()).await {
        let id = upload_once(&server).await;
        let id = id.as_str().unwrap();
        let request = server.jobs.get(id).await.unwrap().request;
        let plain = serde_json::to_string(&request).unwrap();
        let mut hash = Sha256::new();
        hash.update(plain.as_bytes());
        hash.update(b"print(1)");
        server
            .store_plain(id, &plain, &format!("{:x}", hash.finalize()))
            .await;
        let without = server.upload("print(2)", json!({})).await;
        let plain = serde_json::to_string(&server.jobs.get(&without).await.unwrap().request);
        server.store_plain(&without, &plain.unwrap(), "h").await;

        // Also before they are sealed they are what they were.
        assert_eq!(server.jobs.get(id).await.unwrap().request, request);
        assert_eq!(upload_once(&server).await, json!(id), "{}", server.name);
        server.jobs.seal_plain_variables().await.unwrap();
        let (stored, hash, sealed) = server.stored(id).await;
        assert!(!stored.contains(SECRET) && sealed.is_some_and(|sealed| !sealed.is_empty()));
        assert_eq!(server.jobs.get(id).await.unwrap().request, request);
        assert_eq!(upload_once(&server).await, json!(id), "{}", server.name);
        assert_eq!(server.stored(&without).await.2.as_deref(), Some(""));
        server.jobs.seal_plain_variables().await.unwrap();
        assert_eq!(server.stored(id).await.1, hash);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_a_job_says_so_and_does_not_run() {
    for server in both(&config()).await {
        let id = server.upload("print('ran')", variables()).await;
        let plain = server.upload("print('ran')", json!({})).await;
        let server = server.with_another_key();
        let hidden = json!({"DB_PASSWORD": "***", "N_ESTIMATORS": "***"});
        assert_eq!(server.job(&id).await["environment_vars"], hidden);
        let rerun = format!("/mlops/training/jobs/{id}/rerun");
        let refused = server.send(Identity::Local, Method::POST, &rerun, &[], Some(json!({})));
        let refused = refused.await.expect(409);
        assert_eq!(refused["code"], "variables_sealed");
        let worker = server.work();
        let job = server.end(&id).await;
        assert_eq!(
            (&job["status"], &job["reason"], &job["error_info"]["code"]),
            (
                &json!("failed"),
                &json!("infra"),
                &json!("variables_sealed")
            ),
            "{}: {job:#}",
            server.name
        );
        for told in [&job["error"], &refused["message"]] {
            assert!(
                told.as_str().unwrap().contains("server.secret_key"),
                "{told}"
            );
        }
        assert!(
            server.end(&plain).await["logs"]
                .as_str()
                .unwrap()
                .contains("ran\n")
        );
        worker.stop().await;
    }
}
