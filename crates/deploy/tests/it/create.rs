//! Asking for deployments: what is refused, repeated, held, and why one fails.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Server, at, both};

#[tokio::test]
async fn what_cannot_be_deployed_is_refused_with_its_cause() {
    for server in both().await {
        let unknown = server
            .post("/mlops/deploy", json!({"model_name": "none"}))
            .await;
        let unknown = unknown.expect(404);
        assert!(
            unknown["message"].as_str().unwrap().contains("none"),
            "{unknown:#}"
        );
        let wrong = json!({"model_name": "m", "replicas": 99, "namespace": "Not This"});
        let wrong = server.post("/mlops/deploy", wrong).await.expect(422);
        assert_eq!(wrong["detail"].as_array().unwrap().len(), 2, "{wrong:#}");
        let variables = json!({"model_name": "m", "environment": {"A": "1", "LD_PRELOAD": "x"}});
        let variables = server.post("/mlops/deploy", variables).await.expect(422);
        assert_eq!(
            variables["detail"][0]["loc"],
            json!(["body", "environment", "LD_PRELOAD"]),
            "{variables:#}"
        );
        let script = json!({"model_name": "m", "script_content": "print('no model')"});
        let script = server.post("/mlops/deploy", script).await.expect(422);
        assert_eq!(script["code"], "no_mlflow");
        assert!(
            script["help"].as_str().unwrap().contains("log_model"),
            "{script:#}"
        );
        let missing = server.get("/mlops/deployments/nothing").await.expect(404);
        assert_eq!(missing["code"], "deployment_not_found");
        let list = server.get("/mlops/deployments").await.expect(200);
        assert_eq!(list["deployments"], json!([]));
        server
            .get("/mlops/deployments?status=lost")
            .await
            .expect(400);
    }
}

/// Asks for the deployment of a script with a variable, and gives its id.
async fn deploy_script(server: &Server) -> Value {
    let body = json!({
        "model_name": "m", "script_content": "import mine", "autolog": true,
        "environment_vars": {"DB_PASSWORD": "correct-horse"}
    });
    let later = [("prefer", "respond-async")];
    let made = server.send(Method::POST, "/mlops/deploy", &later, Some(body));
    made.await.expect(202)["deployment_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_a_script_lie_sealed_and_reach_its_training() {
    for server in both().await {
        let id = deploy_script(&server).await;
        let stored = server.stored_training(&id).await;
        assert!(!stored.contains("correct-horse"), "{stored}");
        let worker = server.work();
        let deployment = server.wait(&id, |d| d["training_job_id"].is_string());
        let job_id = deployment.await["training_job_id"].clone();
        let variables = server.variables_of(&job_id).await;
        assert_eq!(variables["DB_PASSWORD"], "correct-horse", "{}", server.name);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_a_script_is_not_trained_and_its_deployment_says_so() {
    for server in both().await {
        let id = deploy_script(&server).await;
        let server = server.with_another_key();
        let worker = server.work();
        let failed = server.wait(&id, |d| d["status"] == "failed").await;
        let told = failed["error"].as_str().unwrap();
        assert!(told.contains("server.secret_key"), "{told}");
        worker.stop().await;
    }
}

async fn deploy_with_variables(server: &Server) -> Value {
    server.register("m", &[("requirements.txt", "")]).await;
    let body = json!({"model_name": "m", "environment": {"DB_PASSWORD": "correct-horse"}});
    let headers = [("prefer", "respond-async")];
    let made = server.send(Method::POST, "/mlops/deploy", &headers, Some(body));
    made.await.expect(202)["deployment_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_replicas_lie_sealed_also_those_of_earlier_versions() {
    for server in both().await {
        let id = deploy_with_variables(&server).await;
        let stored = server.stored_request(&id).await;
        assert!(!stored.contains("correct-horse"), "{stored}");
        let mut plain: Value = serde_json::from_str(&stored).unwrap();
        plain["environment"] = json!({"DB_PASSWORD": "correct-horse"});
        server.store_request(&id, &plain.to_string()).await;
        for _ in 0..2 {
            server.deployments.seal_plain_environments().await.unwrap();
            let stored = server.stored_request(&id).await;
            assert!(!stored.contains("correct-horse"), "{stored}");
        }
        let worker = server.work();
        server.log_has(&id, "'DB_PASSWORD': '***'", 1).await;
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_an_earlier_version_are_read_as_they_are() {
    for server in both().await {
        let id = deploy_with_variables(&server).await;
        let mut plain: Value = serde_json::from_str(&server.stored_request(&id).await).unwrap();
        plain["environment"] = json!({"DB_PASSWORD": "correct-horse"});
        server.store_request(&id, &plain.to_string()).await;
        let worker = server.work();
        server.log_has(&id, "'DB_PASSWORD': '***'", 1).await;
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_their_key_replicas_do_not_start_and_it_is_said_why() {
    for server in both().await {
        let id = deploy_with_variables(&server).await;
        let server = server.with_another_key();
        let worker = server.work();
        let failed = server.wait(&id, |d| d["status"] == "failed").await;
        let told = failed["error"].as_str().unwrap();
        assert!(told.contains("server.secret_key"), "{told}");
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_repeated_request_finds_its_deployment() {
    for server in both().await {
        server.register("m", &[]).await;
        let send = async |body: serde_json::Value| {
            let headers = [("idempotency-key", "k1"), ("prefer", "respond-async")];
            server
                .send(Method::POST, "/mlops/deploy", &headers, Some(body))
                .await
        };
        let first = send(json!({"model_name": "m"})).await;
        let location = first.headers["location"].to_str().unwrap().to_owned();
        let first = first.expect(202);
        assert_eq!(first["status"], "building");
        assert_eq!(location, at(&first["deployment_id"], ""));
        let again = send(json!({"model_name": "m"})).await.expect(202);
        assert_eq!(again["deployment_id"], first["deployment_id"]);
        let other = send(json!({"model_name": "m", "replicas": 2}))
            .await
            .expect(409);
        assert_eq!(other["code"], "idempotency_key_reused");
        let list = server
            .get("/mlops/deployments?model_name=m")
            .await
            .expect(200);
        assert_eq!(list["deployments"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_served_fails_with_its_cause() {
    for server in both().await {
        let worker = server.work();
        server.register("bare", &[]).await;
        let failed = server
            .post("/mlops/deploy", json!({"model_name": "bare"}))
            .await;
        let location = failed.headers["location"].to_str().unwrap().to_owned();
        let failed = failed.expect(422);
        assert_eq!(failed["code"], "deployment_failed");
        assert!(failed["help"].is_string(), "{failed:#}");
        let stored = server.get(&location).await.expect(200);
        assert_eq!(stored["status"], "failed");
        assert_eq!(stored["error"], failed["message"]);
        assert!(stored["phases"][0]["seconds"].is_number(), "{stored:#}");

        let broken = [("requirements.txt", ""), ("broken", "")];
        server.register("broken", &broken).await;
        let failed = server
            .post("/mlops/deploy", json!({"model_name": "broken"}))
            .await;
        let failed = failed.expect(422);
        assert_eq!(failed["message"], "the model is broken", "{failed:#}");
        assert_eq!(failed["help"], "mend it");
        let id = &failed["details"]["deployment_id"];
        let log = server.get(&at(id, "/logs")).await.expect(200).to_string();
        assert!(log.contains("help: mend it"), "{log}");
        for (part, body) in [
            ("/scale", json!({"replicas": 1})),
            ("/traffic", json!({"percent": 50})),
        ] {
            let refused = server.post(&at(id, part), body).await.expect(409);
            assert_eq!(refused["code"], "deployment_not_live");
        }
        let refused = server
            .post(&at(id, "/rollback"), json!({}))
            .await
            .expect(409);
        assert_eq!(refused["code"], "nothing_to_roll_back_to");
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_nul_character_is_the_callers_mistake() {
    for server in both().await {
        for path in [
            "/mlops/deployments/%00",
            "/mlops/deployments?model_name=%00",
        ] {
            server.get(path).await.expect(400);
        }
        for body in [
            json!({"model_name": "m\0"}),
            json!({"model_name": "m", "model_version": "@a\0"}),
        ] {
            server.post("/mlops/deploy", body).await.expect(422);
        }
    }
}

#[tokio::test]
async fn a_deployment_that_nobody_carried_out_can_be_removed() {
    for server in both().await {
        server.register("m", &[]).await;
        let asked = server
            .post("/mlops/deploy?wait=false", json!({"model_name": "m"}))
            .await;
        let id = asked.expect(202)["deployment_id"].clone();
        server
            .send(Method::DELETE, &at(&id, ""), &[], None)
            .await
            .expect(200);
        server.get(&at(&id, "")).await.expect(404);
        server
            .send(Method::DELETE, &at(&id, ""), &[], None)
            .await
            .expect(404);
        let worker = server.work();
        worker.stop().await;
        server.get(&at(&id, "")).await.expect(404);
    }
}
