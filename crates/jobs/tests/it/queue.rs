//! Uploading, listing and cancelling, while nothing works on the jobs.

use axum::http::Method;
use serde_json::{Value, json};
use web::Identity;

use crate::server::{Server, body, both, config};

#[tokio::test]
async fn an_upload_is_answered_with_a_job_that_waits() {
    for server in both(&config()).await {
        let answer = server
            .post("/mlops/training/upload", body("print('✅')", json!({})))
            .await;
        let location = answer.headers["location"].to_str().unwrap().to_owned();
        let made = answer.expect(202);
        assert_eq!(made["status"], "queued");
        for field in ["script_name", "experiment_name", "model_name"] {
            assert!(made[field].is_string(), "{field}");
        }
        assert!(made["created_at"].as_str().unwrap().ends_with('Z'));

        let job = server.get(&location).await.expect(200);
        assert_eq!(job["job_id"], made["job_id"]);
        assert_eq!(job["timeout"], 300);
        // Every field is there from the beginning (C1, C55).
        for field in [
            "run_id",
            "model_version",
            "error",
            "error_info",
            "started_at",
            "completed_at",
            "duration_seconds",
            "phase",
            "reason",
            "progress",
            "isolation",
            "exit_code",
        ] {
            assert_eq!(job.get(field), Some(&Value::Null), "{field}");
        }
        assert_eq!(job["elapsed_seconds"], 0);
        assert_eq!(job["logs"], "");
        assert_eq!(
            server.jobs.queue_depth().await.unwrap(),
            1,
            "{}",
            server.name
        );
    }
}

#[tokio::test]
async fn a_refused_upload_names_every_field() {
    let [server, _] = both(&config()).await;
    let refused = server
        .post(
            "/mlops/training/upload",
            json!({
                "script_content": "x",
                "timeout": 1,
                "requirements": ["--index-url http://x"],
                "tags": {"a;b": "c"},
            }),
        )
        .await
        .expect(422);
    let places: Vec<String> = refused["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["loc"].to_string())
        .collect();
    for field in [
        "script_name",
        "experiment_name",
        "model_name",
        "timeout",
        "requirements",
        "a;b",
    ] {
        assert!(
            places.iter().any(|p| p.contains(field)),
            "{field}: {places:?}"
        );
    }
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("between 60 and 3600")
    );
}

#[tokio::test]
async fn an_unknown_job_is_a_404_that_helps() {
    let [server, _] = both(&config()).await;
    for path in ["", "/logs", "/script"] {
        let answer = server
            .get(&format!("/mlops/training/jobs/nothing{path}"))
            .await
            .expect(404);
        assert_eq!(answer["code"], "job_not_found", "{path}");
        assert!(
            answer["help"]
                .as_str()
                .unwrap()
                .contains("/mlops/training/jobs")
        );
    }
    let cancel = server.post("/mlops/training/jobs/nothing/cancel", json!({}));
    cancel.await.expect(404);
}

#[tokio::test]
async fn a_job_is_run_again_with_the_same_script_and_settings() {
    for server in both(&config()).await {
        let upload = body("print(1)", json!({"tags": {"team": "x"}, "timeout": 90}));
        let first = server
            .post("/mlops/training/upload", upload)
            .await
            .expect(202);
        let id = first["job_id"].as_str().unwrap();
        let path = format!("/mlops/training/jobs/{id}/rerun");
        let again = server.post(&path, json!({})).await.expect(202);
        let new = again["job_id"].as_str().unwrap();
        assert_ne!(new, id);
        let document = server
            .get(&format!("/mlops/training/jobs/{new}"))
            .await
            .expect(200);
        assert_eq!(document["tags"]["team"], "x", "{document}");
        assert_eq!(document["tags"]["rerun_of"], id);
        assert_eq!(server.jobs.script(new).await.unwrap(), "print(1)");
        let old = server.jobs.get(id).await.unwrap().request;
        let mut request = server.jobs.get(new).await.unwrap().request;
        request.tags.remove("rerun_of");
        assert_eq!(request, old);
        let unknown = server.post("/mlops/training/jobs/nothing/rerun", json!({}));
        unknown.await.expect(404);
    }
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_job_again() {
    for server in both(&config()).await {
        let send = |script: &'static str| {
            let server = &server;
            async move {
                let headers = [("idempotency-key", "k1")];
                let body = body(script, json!({}));
                let path = "/mlops/training/upload";
                server
                    .send(Identity::Local, Method::POST, path, &headers, Some(body))
                    .await
            }
        };
        let first = send("print(1)").await.expect(202);
        let again = send("print(1)").await.expect(202);
        assert_eq!(first["job_id"], again["job_id"], "{}", server.name);
        let other = send("print(2)").await.expect(409);
        assert_eq!(other["code"], "idempotency_key_reused");
        assert_eq!(server.jobs.queue_depth().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn an_idempotency_key_may_stand_in_the_body() {
    for server in both(&config()).await {
        let key = json!({"idempotency_key": "nightly"});
        let first = server.upload("print(1)", key.clone()).await;
        assert_eq!(server.upload("print(1)", key.clone()).await, first);
        let path = "/mlops/training/upload";
        let other = server.post(path, body("print(2)", key.clone())).await;
        assert_eq!(other.expect(409)["code"], "idempotency_key_reused");
        // The header means the same key; two keys are none.
        let send = |header: &'static str| {
            let (server, body) = (&server, Some(body("print(1)", key.clone())));
            async move {
                let headers = [("idempotency-key", header)];
                let caller = Identity::Local;
                server
                    .send(caller, Method::POST, path, &headers, body)
                    .await
            }
        };
        assert_eq!(send("nightly").await.expect(202)["job_id"], first);
        assert_eq!(send("other").await.status.as_u16(), 422);
        let empty = body("print(1)", json!({"idempotency_key": ""}));
        server.post(path, empty).await.expect(422);
        assert_eq!(server.jobs.queue_depth().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn keys_of_one_name_do_not_share_idempotency_keys() {
    let [server, _] = both(&config()).await;
    let send = |id: &str| {
        let caller = Identity::Key {
            id: id.to_owned(),
            name: "ci".to_owned(),
            role: web::Role::Runner,
        };
        let body = Some(body("x", json!({"idempotency_key": "k"})));
        server.send(caller, Method::POST, "/mlops/training/upload", &[], body)
    };
    let mine = send("1").await.expect(202);
    let others = send("2").await.expect(202);
    assert_ne!(mine["job_id"], others["job_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_fails_and_holds_up_no_other() {
    for server in both(&config()).await {
        let spoiled = server.upload("print('never')", json!({})).await;
        let good = server.upload("print('ran')", json!({})).await;
        server.spoil(&spoiled).await;
        let worker = server.work();
        let job = server.end(&spoiled).await;
        assert_eq!(
            (&job["status"], &job["reason"], &job["error_info"]["code"]),
            (&json!("failed"), &json!("infra"), &json!("job_unreadable")),
            "{}: {job:#}",
            server.name
        );
        assert_eq!(job["model_name"], "model");
        let rerun = format!("/mlops/training/jobs/{spoiled}/rerun");
        let refused = server.post(&rerun, json!({})).await.expect(409);
        assert_eq!(refused["code"], "job_unreadable", "{refused}");
        let ran = server.end(&good).await;
        assert!(ran["logs"].as_str().unwrap().contains("ran\n"));
        assert_eq!(listed(&server, "").await.0.len(), 2);
        worker.stop().await;
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_in_pages_and_by_filter() {
    for server in both(&config()).await {
        let mut ids = Vec::new();
        for n in 0..5 {
            let more = json!({"experiment_name": format!("exp_{n}"), "model_name": "Churn%"});
            ids.push(server.upload("x", more).await);
        }
        let fifth = ids[4..].to_vec();
        // Those of the same millisecond have no order of their own.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let list = |query: &'static str| listed(&server, query);
        let (first, token) = list("?limit=3").await;
        assert_eq!(first, ids[..3], "{}", server.name);
        let path = format!("?limit=3&page_token={}", token.unwrap());
        let (second, token) = listed(&server, &path).await;
        assert_eq!((second.as_slice(), token), (&ids[3..], None));
        assert_eq!(list("?experiment_name=exp_4").await.0, fifth);
        assert_eq!(list("?text=CHURN%25").await.0.len(), 5);
        // An underscore is itself, not any letter.
        assert_eq!(list("?text=exp_1").await.0.len(), 1);
        assert_eq!(list("?text=expx1").await.0.len(), 0);
        assert_eq!(list("?status=queued&model_name=Churn%25").await.0.len(), 5);
        assert_eq!(list("?status=running").await.0.len(), 0);
        server
            .get("/mlops/training/jobs?status=odd")
            .await
            .expect(422);
        server.get("/mlops/training/jobs?limit=0").await.expect(422);
    }
}

async fn listed(server: &Server, query: &str) -> (Vec<String>, Option<String>) {
    let path = format!("/mlops/training/jobs{query}");
    let answer = server.get(&path).await.expect(200);
    let ids = answer["jobs"].as_array().unwrap().iter();
    let ids = ids.map(|job| job["job_id"].as_str().unwrap().to_owned());
    let token = answer["next_page_token"].as_str().map(str::to_owned);
    (ids.collect(), token)
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_only_once() {
    for server in both(&config()).await {
        let id = server.upload("x", json!({})).await;
        let path = format!("/mlops/training/jobs/{id}/cancel");
        let job = server.post(&path, json!({})).await.expect(202);
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("failed"), &json!("cancelled"))
        );
        assert_eq!(job["error_info"]["code"], "cancelled", "{}", server.name);
        // Once more is no error, and changes nothing.
        let again = server.post(&path, json!({})).await.expect(202);
        assert_eq!(again["completed_at"], job["completed_at"]);
    }
}

#[tokio::test]
async fn a_script_comes_back_as_it_was_sent() {
    let [server, _] = both(&config()).await;
    let script = "# ü ✅\nprint(1)\n";
    let id = server.upload(script, json!({})).await;
    let answer = server
        .get(&format!("/mlops/training/jobs/{id}/script"))
        .await;
    assert_eq!(answer.text(), script);
    assert_eq!(
        answer.headers["content-disposition"],
        "attachment; filename=\"train.py\""
    );
}

#[tokio::test]
async fn a_full_queue_asks_to_come_back() {
    let mut config = config();
    config.queue_limit = 1;
    let [server, _] = both(&config).await;
    let path = "/mlops/training/upload";
    let headers = [("idempotency-key", "k1")];
    let send = || {
        let body = Some(body("x", json!({})));
        server.send(Identity::Local, Method::POST, path, &headers, body)
    };
    let first = send().await.expect(202);
    // Who lost the answer asks again for the job that is there already.
    assert_eq!(send().await.expect(202)["job_id"], first["job_id"]);
    let answer = server
        .post("/mlops/training/upload", body("y", json!({})))
        .await;
    assert_eq!(answer.headers["retry-after"], "30");
    assert_eq!(answer.expect(429)["code"], "queue_full");
}

#[tokio::test]
async fn progress_is_for_the_running_job_itself() {
    let [server, _] = both(&config()).await;
    let id = server.upload("x", json!({})).await;
    let path = format!("/mlops/training/jobs/{id}/progress");
    let report = |caller: Identity, progress: f64| {
        let (server, path) = (&server, &path);
        async move {
            let body = Some(json!({ "progress": progress }));
            server
                .send(caller, Method::POST, path, &[], body)
                .await
                .status
                .as_u16()
        }
    };
    let job = |id: &str| Identity::Job {
        job_id: id.to_owned(),
    };
    assert_eq!(report(job("other"), 0.5).await, 403);
    assert_eq!(report(job(&id), 0.5).await, 409);
    assert_eq!(report(job(&id), 1.5).await, 422);
}

#[test]
fn the_documented_schemas_have_their_names() {
    let document = serde_json::to_value(jobs::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "TrainingScriptUploadRequest",
        "TrainingScriptUploadResponse",
        "TrainingJobStatus",
    ] {
        assert!(schemas.contains_key(name), "{name}");
    }
}
