//! What jobs add versions to.

use axum::http::Method;
use serde_json::json;

use crate::server::{Server, both, job};

const CREATE_MODEL: &str = "/api/2.0/mlflow/registered-models/create";
const CREATE_VERSION: &str = "/api/2.0/mlflow/model-versions/create";

/// What both ways of adding a version answer to a job.
async fn statuses(server: &Server, job_id: &str, model: &str) -> (u16, u16) {
    let run = server.run().await;
    server.file(&run.artifact_uri, "model/MLmodel").await;
    let source = format!("runs:/{}/model", run.run_id);
    let body = json!({"name": model, "source": source, "run_id": run.run_id});
    let by_mlflow = server
        .send_as(job(job_id), Method::POST, CREATE_VERSION, body)
        .await;
    if by_mlflow.status == 403 {
        assert_eq!(by_mlflow.error(), (403, "PERMISSION_DENIED".into()));
    }
    let run = server.run().await;
    server.file(&run.artifact_uri, "model/MLmodel").await;
    let body = json!({"model_name": model, "run_id": run.run_id});
    let own = server
        .send_as(job(job_id), Method::POST, "/mlops/registry", body)
        .await;
    if own.status == 403 {
        let help = own.json()["help"].as_str().unwrap().to_owned();
        assert!(help.contains("model_name"), "{}", own.json());
    }
    (by_mlflow.status.as_u16(), own.status.as_u16())
}

#[tokio::test]
async fn a_job_adds_no_version_to_a_model_of_others() {
    for server in both().await {
        server.model("fraud").await;
        server.version("fraud").await;
        assert_eq!(statuses(&server, "iris-1", "fraud").await, (403, 403));
        assert_eq!(statuses(&server, "unknown", "fraud").await, (403, 403));
        let versions = server.registry.versions_of_model("fraud").await.unwrap();
        assert_eq!(versions.len(), 1, "{}", server.name);
    }
}

#[tokio::test]
async fn a_job_adds_versions_to_the_model_that_its_upload_named() {
    for server in both().await {
        server.model("iris").await;
        server.version("iris").await;
        for job_id in ["iris-1", "iris-2"] {
            assert_eq!(statuses(&server, job_id, "iris").await, (200, 201));
        }
    }
}

#[tokio::test]
async fn a_script_adds_versions_to_a_model_that_it_made_also_when_it_runs_again() {
    for server in both().await {
        let body = json!({"name": "own forest"});
        let made = server
            .send_as(job("iris-1"), Method::POST, CREATE_MODEL, body)
            .await;
        made.ok();
        assert_eq!(statuses(&server, "iris-1", "own forest").await, (200, 201));
        assert_eq!(statuses(&server, "iris-2", "own forest").await, (200, 201));
        assert_eq!(statuses(&server, "wine-1", "own forest").await, (403, 403));
        // Registering makes the model too.
        let run = server.run().await;
        server.file(&run.artifact_uri, "model/MLmodel").await;
        let body = json!({"model_name": "free", "run_id": run.run_id});
        let made = server
            .send_as(job("unknown"), Method::POST, "/mlops/registry", body)
            .await;
        assert_eq!(made.status, 201);
        assert_eq!(statuses(&server, "unknown", "free").await, (200, 201));
        assert_eq!(statuses(&server, "iris-1", "free").await, (403, 403));
    }
}

#[tokio::test]
async fn a_job_that_registers_a_logged_model_of_others_leaves_it_as_it_is() {
    for server in both().await {
        let run = server.run().await;
        let model = server.logged_model("m", &run).await;
        server.file(&model.artifact_uri, "MLmodel").await;
        let body = json!({"model_name": "iris", "model_id": model.model_id});
        let made = server
            .send_as(job("iris-1"), Method::POST, "/mlops/registry", body)
            .await;
        assert_eq!(made.status, 201);
        let tracking = server.registry.tracking();
        let after = tracking.get_logged_model(&model.model_id).await.unwrap();
        assert_eq!(after.tags, model.tags, "{}", server.name);
    }
}

/// A version of `iris` that a job made, or nobody's.
async fn version(server: &Server, job_id: Option<&str>) -> String {
    let run = server.run().await;
    server.file(&run.artifact_uri, "model/MLmodel").await;
    let source = format!("runs:/{}/model", run.run_id);
    let body = json!({"name": "iris", "source": source, "run_id": run.run_id});
    let caller = job_id.map_or(web::Identity::Local, job);
    let made = server.send_as(caller, Method::POST, CREATE_VERSION, body);
    let version = made.await.ok()["model_version"]["version"].clone();
    version.as_str().unwrap().to_owned()
}

/// What a job is answered that sets the alias `champion`.
async fn alias(server: &Server, job_id: &str, version: &str) -> u16 {
    let path = "/api/2.0/mlflow/registered-models/alias";
    let body = json!({"name": "iris", "alias": "champion", "version": version});
    let answer = server.send_as(job(job_id), Method::POST, path, body).await;
    if answer.status == 403 {
        assert_eq!(answer.error(), (403, "PERMISSION_DENIED".into()));
    }
    answer.status.as_u16()
}

/// What a job is answered that moves a version to Production.
async fn stage(server: &Server, job_id: &str, version: &str, archive: bool) -> u16 {
    let path = "/api/2.0/mlflow/model-versions/transition-stage";
    let body = json!({"name": "iris", "version": version, "stage": "Production",
                      "archive_existing_versions": archive});
    let answer = server.send_as(job(job_id), Method::POST, path, body).await;
    answer.status.as_u16()
}

#[tokio::test]
async fn a_job_gives_aliases_to_its_own_versions_and_takes_none_from_others() {
    for server in both().await {
        server.model("iris").await;
        let others = version(&server, None).await;
        let first = version(&server, Some("iris-1")).await;
        let second = version(&server, Some("iris-2")).await;
        assert_eq!(alias(&server, "iris-1", &others).await, 403, "not its own");
        assert_eq!(alias(&server, "iris-1", &first).await, 200);
        assert_eq!(alias(&server, "iris-1", &first).await, 200, "as it is");
        assert_eq!(alias(&server, "iris-2", &second).await, 403, "held");
        // A script that an editor uploaded may move it, as that editor may.
        let third = version(&server, Some("iris-editor")).await;
        assert_eq!(alias(&server, "iris-editor", &second).await, 403);
        assert_eq!(alias(&server, "iris-editor", &third).await, 200);
        let path = "/api/2.0/mlflow/registered-models/alias";
        let body = json!({"name": "iris", "alias": "champion"});
        for (job_id, expected) in [("iris-1", 403), ("iris-editor", 200)] {
            let deleted = server.send_as(job(job_id), Method::DELETE, path, body.clone());
            assert_eq!(deleted.await.status, expected, "{}", server.name);
        }
    }
}

#[tokio::test]
async fn a_job_moves_its_own_versions_to_stages_that_no_other_is_in() {
    for server in both().await {
        server.model("iris").await;
        let first = version(&server, Some("iris-1")).await;
        let again = version(&server, Some("iris-1")).await;
        let second = version(&server, Some("iris-2")).await;
        assert_eq!(stage(&server, "iris-2", &first, false).await, 403);
        assert_eq!(stage(&server, "iris-1", &first, false).await, 200);
        assert_eq!(stage(&server, "iris-1", &again, true).await, 200);
        for archive in [false, true] {
            // Without archiving, the newest version in a stage still is the one that is served.
            assert_eq!(stage(&server, "iris-2", &second, archive).await, 403);
        }
        let third = version(&server, Some("iris-editor")).await;
        assert_eq!(stage(&server, "iris-editor", &third, true).await, 200);
        let archived = server.registry.get_version("iris", 2).await.unwrap();
        assert_eq!(archived.stage.as_str(), "Archived", "{}", server.name);
    }
}
