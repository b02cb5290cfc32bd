//! What is deployed: it answers at one address through crashes, restarts and new versions.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{ask, at, both, version};

#[tokio::test]
async fn a_deployed_model_answers_and_survives_crashes_and_restarts() {
    for server in both().await {
        let worker = server.work();
        let deployed = server.deploy("m", json!({"replicas": 2})).await;
        assert_eq!(deployed["status"], "deployed");
        assert_eq!(deployed["ready_replicas"], 2, "{deployed:#}");
        assert!(deployed["deployment_time_seconds"].as_f64().unwrap() > 0.0);
        let (id, url) = (&deployed["deployment_id"], &deployed["inference_url"]);
        assert_eq!(version(url).await, "1");

        // The replica that gets it dies; the other one is not given it, and goes on.
        let (status, answer) = ask(url, &json!({"die": true})).await;
        assert_eq!(status, 502, "{answer:#}");
        assert_eq!(answer["code"], "replica_died", "{answer:#}");
        assert_eq!(version(url).await, "1");
        server.wait(id, |d| d["ready_replicas"] == 2).await;
        assert_eq!(version(url).await, "1");

        worker.stop().await;
        let server = server.restarted();
        let worker = server.work();
        server.wait(id, |d| d["ready_replicas"] == 2).await;
        assert_eq!(version(url).await, "1", "the address stays");

        let scaled = server.post(&at(id, "/scale"), json!({"replicas": 1})).await;
        assert_eq!(scaled.expect(200)["replicas"], 1);
        server.wait(id, |d| d["ready_replicas"] == 1).await;
        server
            .send(Method::DELETE, &at(id, ""), &[], None)
            .await
            .expect(200);
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_replica_that_leaves_and_one_that_comes_have_folders_of_their_own() {
    let [server, _] = both().await;
    let worker = server.work();
    let deployed = server.deploy("m", json!({"replicas": 2})).await;
    let (id, url) = (&deployed["deployment_id"], &deployed["inference_url"]);
    let wait = json!({"wait": true});
    let asked = async { tokio::join!(ask(url, &wait), ask(url, &wait)) };
    let scaled = async {
        server.log_has(id, "waits", 2).await;
        for replicas in [1, 2] {
            let body = json!({ "replicas": replicas });
            server.post(&at(id, "/scale"), body).await.expect(200);
            server.wait(id, |d| d["ready_replicas"] == replicas).await;
        }
        assert_eq!(server.replica_folders(), 3, "the first two, and a new one");
        server.release("m").await;
    };
    let (answers, ()) = tokio::join!(asked, scaled);
    for (status, answer) in [answers.0, answers.1] {
        assert_eq!(
            (status, &answer["version"]),
            (200, &json!("1")),
            "{answer:#}"
        );
    }
    server.until(|| server.replica_folders() == 2).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_new_version_takes_over_and_can_be_taken_back() {
    for server in both().await {
        let worker = server.work();
        let first = server.deploy("m", json!({})).await;
        let second = server.deploy("m", json!({})).await;
        let url = &second["inference_url"];
        assert_eq!(url, &first["inference_url"], "one address for one model");
        assert_eq!(version(url).await, "2");
        let replaced = server.deployment(&first["deployment_id"]).await;
        assert_eq!(
            (&replaced["live"], &replaced["traffic_percent"]),
            (&json!(false), &json!(0))
        );

        let path = at(&second["deployment_id"], "/rollback");
        let back = server.post(&path, json!({})).await.expect(200);
        assert_eq!(back["rollback_to"], first["deployment_id"]);
        assert_eq!(back["model_version"], "1");
        assert_eq!(version(url).await, "1");
        let live = server.get("/mlops/deployments?live=true").await.expect(200);
        assert_eq!(live["deployments"].as_array().unwrap().len(), 1);
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_canary_gets_its_share_and_is_promoted() {
    for server in both().await {
        let worker = server.work();
        let first = server.deploy("m", json!({})).await;
        let canary = server.deploy("m", json!({"canary_percent": 20})).await;
        let (id, url) = (&canary["deployment_id"], &canary["inference_url"]);
        let mut counts = [0, 0];
        for _ in 0..100 {
            counts[version(url).await.parse::<usize>().unwrap() - 1] += 1;
        }
        assert_eq!(counts, [80, 20], "{}", server.name);
        let rest = server.deployment(&first["deployment_id"]).await;
        assert_eq!(rest["traffic_percent"], 80);

        let promoted = server
            .post(&at(id, "/traffic"), json!({"percent": 100}))
            .await;
        assert_eq!(promoted.expect(200)["traffic_percent"], 100);
        server
            .wait(&first["deployment_id"], |d| d["live"] == false)
            .await;
        // The loop that changes the shares is told at once, and takes its moment.
        let patience = Instant::now() + Duration::from_secs(60);
        while version(url).await != "2" {
            assert!(Instant::now() < patience, "{}", server.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for _ in 0..10 {
            assert_eq!(version(url).await, "2");
        }
        let alone = server
            .post(&at(id, "/traffic"), json!({"percent": 50}))
            .await;
        assert_eq!(alone.expect(409)["code"], "only_deployment");
        worker.stop().await;
    }
}

#[tokio::test]
async fn each_deployment_has_variables_of_its_own() {
    for server in both().await {
        let worker = server.work();
        let variables = |greeting| json!({"GREETING": greeting, "API_KEY": "hunter22 & more"});
        let variables_of = async |url: &Value| {
            let (status, answer) = ask(url, &json!({})).await;
            assert_eq!(status, 200, "{answer:#}");
            (answer["version"].clone(), answer["variables"].clone())
        };
        let first = json!({"environment": variables("one")});
        let first = server.deploy("m", first).await;
        let (id, url) = (&first["deployment_id"], &first["inference_url"]);
        let one = (json!("1"), variables("one"));
        assert_eq!(variables_of(url).await, one);

        let canary = json!({"environment": {"GREETING": "two"}, "canary_percent": 50});
        let canary = server.deploy("m", canary).await;
        let two = (json!("2"), json!({"GREETING": "two"}));
        let mut seen = Vec::new();
        for _ in 0..100 {
            seen.push(variables_of(url).await);
        }
        let count = |wanted| seen.iter().filter(|one| *one == wanted).count();
        assert_eq!((count(&one), count(&two)), (50, 50), "{}", server.name);

        worker.stop().await;
        let server = server.restarted();
        let worker = server.work();
        for id in [id, &canary["deployment_id"]] {
            server.wait(id, |d| d["ready_replicas"] == 1).await;
        }
        let path = at(&canary["deployment_id"], "/rollback");
        let back = server.post(&path, json!({"to": id})).await.expect(200);
        assert_eq!(variables_of(url).await, one, "{}", server.name);

        let back = &back["deployment_id"];
        server.log_has(back, "'API_KEY': '***'", 1).await;
        for path in [at(back, ""), at(back, "/logs"), at(id, "/logs")] {
            let shown = server.get(&path).await.expect(200).to_string();
            assert!(!shown.contains("hunter22"), "{shown}");
        }
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_port_that_another_program_took_is_told_until_it_is_free_again() {
    let [server, _] = both().await;
    let worker = server.work();
    let deployed = server.deploy("m", json!({})).await;
    let (id, url) = (&deployed["deployment_id"], &deployed["inference_url"]);
    worker.stop().await;
    let address = url.as_str().unwrap().trim_start_matches("http://");
    let patience = Instant::now() + Duration::from_secs(60);
    let taken = loop {
        match std::net::TcpListener::bind(address) {
            Ok(taken) => break taken,
            Err(error) => assert!(Instant::now() < patience, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    let server = server.restarted();
    let worker = server.work();
    let told = server.wait(id, |d| d["error_info"]["code"] == "port_taken");
    let told = told.await;
    assert_eq!(told["status"], "deployed", "{told:#}");
    assert!(told["error_info"]["help"].is_string(), "{told:#}");
    drop(taken);
    server
        .wait(id, |d| d["error"].is_null() && d["ready_replicas"] == 1)
        .await;
    assert_eq!(version(url).await, "1");
    worker.stop().await;
}

#[tokio::test]
async fn a_deployment_that_cannot_run_again_says_why_until_it_can() {
    let [server, _] = both().await;
    let worker = server.work();
    let variables = json!({"environment": {"DB_PASSWORD": "correct-horse"}});
    let deployed = server.deploy("m", variables).await;
    let id = &deployed["deployment_id"];
    worker.stop().await;
    let server = server.with_another_key();
    let worker = server.work();
    let told = server.wait(id, |d| d["error_info"]["code"] == "cannot_run_again");
    let told = told.await;
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("server.secret_key"), "{told:#}");
    assert!(!told.to_string().contains("correct-horse"), "{told:#}");
    worker.stop().await;
}
