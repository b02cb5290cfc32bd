//! Removing for good what was deleted.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use tracking::{Deleted, DeletedKind, Location, Removal};

use crate::server::{Server, both};

const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Later than everything that a test deletes.
const LATER: i64 = i64::MAX / 2;

async fn deleted(server: &Server, kind: DeletedKind) -> Vec<Deleted> {
    let page = server.tracking.list_deleted(kind, LATER, "", 100);
    page.await.unwrap()
}

/// An experiment with a run that has params, metrics and a file; its id and the run's.
async fn experiment(server: &Server, name: &str) -> (String, String) {
    let made = server
        .post("experiments/create", json!({"name": name}))
        .await
        .ok();
    let id = made["experiment_id"].as_str().unwrap().to_owned();
    let run = server
        .post("runs/create", json!({"experiment_id": id}))
        .await
        .ok();
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let batch = json!({
        "run_id": run_id,
        "params": [{"key": "p", "value": "1"}],
        "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 1}],
        "tags": [{"key": "t", "value": "1"}],
    });
    server.post("runs/log-batch", batch).await.ok();
    let file = format!("{PROXY}/{id}/{run_id}/artifacts/model/MLmodel");
    assert_eq!(
        server.send(Method::PUT, &file, "weights").await.status,
        StatusCode::OK
    );
    (id, run_id)
}

#[tokio::test]
async fn a_removed_experiment_is_gone_with_its_files_and_its_name_is_free() {
    for server in both().await {
        let (id, run_id) = experiment(&server, "e").await;
        server
            .post("experiments/delete", json!({"experiment_id": id}))
            .await
            .ok();
        let tracking = &server.tracking;
        let [experiment] = &*deleted(&server, DeletedKind::Experiment).await else {
            panic!("one experiment is deleted");
        };
        // Not before what it holds.
        assert_eq!(
            tracking.remove_deleted(experiment, LATER).await.unwrap(),
            Removal::NotEmpty
        );
        let [run] = &*deleted(&server, DeletedKind::Run).await else {
            panic!("one run is deleted");
        };
        assert_eq!((&run.id, run.kind), (&run_id, DeletedKind::Run));
        let folder = run.folder().unwrap();
        let extent = tracking.extent(&folder).await.unwrap();
        assert_eq!((extent.files, extent.size_bytes), (1, 7));

        assert_eq!(
            tracking.remove_deleted(run, LATER).await.unwrap(),
            Removal::Removed
        );
        assert_eq!(
            tracking.remove_deleted(run, LATER).await.unwrap(),
            Removal::NotDeleted
        );
        assert_eq!(
            tracking.remove_deleted(experiment, LATER).await.unwrap(),
            Removal::Removed
        );
        // Whoever is killed here leaves notes of the files.
        let left = tracking.list_removed_folders("", 10).await.unwrap();
        assert_eq!(left, [Location::root().join(&id).unwrap(), folder.clone()]);
        for folder in &left {
            tracking.remove_files(folder).await.unwrap();
        }
        assert!(
            tracking
                .list_removed_folders("", 10)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(!server.dir.path().join("artifacts").join(&id).exists());

        let gone = server.get(&format!("runs/get?run_id={run_id}")).await;
        assert_eq!(gone.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
        let restored = server
            .post("experiments/restore", json!({"experiment_id": id}))
            .await;
        assert_eq!(restored.status, StatusCode::NOT_FOUND);
        let again = server
            .post("experiments/create", json!({"name": "e"}))
            .await
            .ok();
        assert_ne!(
            again["experiment_id"],
            id.as_str(),
            "an id is never used again"
        );
    }
}

#[tokio::test]
async fn what_was_restored_meanwhile_stays() {
    for server in both().await {
        let (id, run_id) = experiment(&server, "e").await;
        server
            .post("runs/delete", json!({"run_id": run_id}))
            .await
            .ok();
        let found = deleted(&server, DeletedKind::Run).await;
        server
            .post("runs/restore", json!({"run_id": run_id}))
            .await
            .ok();
        let removal = server
            .tracking
            .remove_deleted(&found[0], LATER)
            .await
            .unwrap();
        assert_eq!(removal, Removal::NotDeleted);

        server
            .post("experiments/delete", json!({"experiment_id": id}))
            .await
            .ok();
        let runs = deleted(&server, DeletedKind::Run).await;
        let experiments = deleted(&server, DeletedKind::Experiment).await;
        server
            .post("experiments/restore", json!({"experiment_id": id}))
            .await
            .ok();
        for thing in runs.iter().chain(&experiments) {
            let removal = server.tracking.remove_deleted(thing, LATER).await.unwrap();
            assert_eq!(removal, Removal::NotDeleted, "{thing:?}");
        }
        let run = server.get(&format!("runs/get?run_id={run_id}")).await.ok();
        assert_eq!(run["run"]["data"]["params"][0]["key"], "p");
        let file = format!("{PROXY}/{id}/{run_id}/artifacts/model/MLmodel");
        let read = server.send(Method::GET, &file, Body::empty()).await;
        assert_eq!(read.body, "weights");
    }
}

#[tokio::test]
async fn what_was_deleted_lately_stays_in_the_bin() {
    for server in both().await {
        let (_, run_id) = experiment(&server, "e").await;
        server
            .post("runs/delete", json!({"run_id": run_id}))
            .await
            .ok();
        let found = deleted(&server, DeletedKind::Run).await;
        let before = found[0].deleted_at - 1;
        let page = server
            .tracking
            .list_deleted(DeletedKind::Run, before, "", 10);
        assert!(page.await.unwrap().is_empty());
        let removal = server
            .tracking
            .remove_deleted(&found[0], before)
            .await
            .unwrap();
        assert_eq!(removal, Removal::NotDeleted);
    }
}

#[tokio::test]
async fn a_logged_model_goes_by_itself_or_with_its_experiment() {
    for server in both().await {
        let (id, _) = experiment(&server, "e").await;
        let mut models = Vec::new();
        for name in ["a", "b"] {
            let body = json!({"experiment_id": id, "name": name});
            let made = server.post("logged-models", body).await.ok();
            models.push(
                made["model"]["info"]["model_id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        server
            .json_as(
                web::Identity::Local,
                Method::DELETE,
                &format!("logged-models/{}", models[0]),
                json!({}),
            )
            .await
            .ok();
        let found = deleted(&server, DeletedKind::LoggedModel).await;
        assert_eq!(
            found.iter().map(|m| &m.id).collect::<Vec<_>>(),
            [&models[0]]
        );
        server
            .post("experiments/delete", json!({"experiment_id": id}))
            .await
            .ok();
        let found = deleted(&server, DeletedKind::LoggedModel).await;
        assert_eq!(found.len(), 2, "{}", server.name);
        for model in &found {
            let folder = model.folder().unwrap();
            assert_eq!(folder.key(), format!("{id}/models/{}", model.id));
            let removal = server.tracking.remove_deleted(model, LATER).await.unwrap();
            assert_eq!(removal, Removal::Removed);
        }
        assert!(deleted(&server, DeletedKind::LoggedModel).await.is_empty());
    }
}

#[tokio::test]
async fn an_experiment_takes_nothing_from_others_in_the_same_folder() {
    for server in both().await {
        let (first, run_id) = experiment(&server, "first").await;
        let other = json!({"name": "other", "artifact_location": format!("mlflow-artifacts:/{first}/other")});
        let other = server.post("experiments/create", other).await.ok();
        let run = server
            .post(
                "runs/create",
                json!({"experiment_id": other["experiment_id"]}),
            )
            .await
            .ok();
        let root = run["run"]["info"]["artifact_uri"].as_str().unwrap();
        let file = format!(
            "{PROXY}/{}/f",
            root.strip_prefix("mlflow-artifacts:/").unwrap()
        );
        server.send(Method::PUT, &file, "mine").await;

        server
            .post("experiments/delete", json!({"experiment_id": first}))
            .await
            .ok();
        for kind in DeletedKind::ALL {
            for thing in deleted(&server, kind).await {
                server.tracking.remove_deleted(&thing, LATER).await.unwrap();
            }
        }
        for folder in server.tracking.list_removed_folders("", 10).await.unwrap() {
            server.tracking.remove_files(&folder).await.unwrap();
        }
        let gone = format!("{PROXY}/{first}/{run_id}/artifacts/model/MLmodel");
        assert_eq!(
            server.send(Method::GET, &gone, Body::empty()).await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            server.send(Method::GET, &file, Body::empty()).await.body,
            "mine"
        );
    }
}

/// Logs a point after the other until it is refused.
async fn log_until_refused(tracking: tracking::Tracking, run_id: String, writer: i64) -> u16 {
    for step in 0.. {
        let metric = tracking::Metric {
            key: "m".to_owned(),
            value: 1.0,
            timestamp: writer,
            step,
        };
        let logged = tracking::LoggedMetric {
            metric,
            model_id: None,
            dataset_name: None,
            dataset_digest: None,
        };
        let batch = tracking::Batch {
            metrics: vec![logged],
            ..tracking::Batch::default()
        };
        if let Err(error) = tracking.log_batch(&run_id, batch, None).await {
            return error.code().status().as_u16();
        }
    }
    unreachable!("steps do not end")
}

#[tokio::test]
async fn a_run_that_is_removed_while_it_is_written_leaves_no_point() {
    for server in both().await {
        let (_, run_id) = experiment(&server, "e").await;
        let (_, other) = experiment(&server, "other").await;
        let writing: Vec<_> = (0..8)
            .map(|writer| {
                let writing = log_until_refused(server.tracking.clone(), run_id.clone(), writer);
                tokio::spawn(writing)
            })
            .collect();
        let begun = Instant::now();
        while server.points().await < 50 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{}: nobody writes",
                server.name
            );
            tokio::task::yield_now().await;
        }
        let body = json!({"run_id": run_id});
        server.post("runs/delete", body).await.ok();
        let found = deleted(&server, DeletedKind::Run).await;
        let removal = server.tracking.remove_deleted(&found[0], LATER).await;
        assert_eq!(removal.unwrap(), Removal::Removed);
        for writing in writing {
            let status = writing.await.unwrap();
            assert!([400, 404].contains(&status), "{}: {status}", server.name);
        }
        assert_eq!(server.points().await, 1, "{}: that of {other}", server.name);
    }
}
