//! The files of registered versions stay as they are.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use web::testing::send_as;
use web::{Identity, Role};

use crate::server::{Server, both, job};

fn key(role: Role) -> Identity {
    Identity::Key {
        id: "1".to_owned(),
        name: "k".to_owned(),
        role,
    }
}

/// What a caller is answered that changes an artifact.
async fn change(server: &Server, caller: Identity, method: Method, uri: &str, path: &str) -> u16 {
    let place = uri.strip_prefix("mlflow-artifacts:/").unwrap();
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/{place}/{path}");
    let answer = server.send_as(caller, method, &path, json!({"x": 1})).await;
    if answer.status == 403 {
        assert_eq!(answer.error().1, "PERMISSION_DENIED");
    }
    answer.status.as_u16()
}

#[tokio::test]
async fn a_registered_version_keeps_its_files_whoever_may_write_runs() {
    for server in both().await {
        server.model("m").await;
        let run = server.run().await;
        let uri = &run.artifact_uri;
        for path in ["model/MLmodel", "model/data/weights", "plots/a.png"] {
            server.file(uri, path).await;
        }
        let runner = || key(Role::Runner);
        let put = |caller, path| change(&server, caller, Method::PUT, uri, path);
        assert_eq!(put(runner(), "model/MLmodel").await, 200);
        let body = json!({"name": "m", "source": format!("runs:/{}/model", run.run_id)});
        server.post("model-versions/create", body).await.ok();

        assert_eq!(put(runner(), "model/MLmodel").await, 403);
        assert_eq!(put(runner(), "model/data/new").await, 403);
        // A run takes files also when a model of it is registered, and after its end.
        assert_eq!(put(runner(), "plots/b.png").await, 200);
        assert_eq!(put(runner(), "modelling/notes.md").await, 200);
        assert_eq!(put(key(Role::Editor), "model/MLmodel").await, 200);
        assert_eq!(put(Identity::Local, "model/MLmodel").await, 200);

        let delete = |caller, path| change(&server, caller, Method::DELETE, uri, path);
        for path in ["model/MLmodel", "model", "plots", ""] {
            assert_eq!(delete(runner(), path).await, 403, "{}: {path}", server.name);
        }
        assert_eq!(delete(key(Role::Editor), "plots").await, 200);
    }
}

#[tokio::test]
async fn an_upload_that_began_before_the_registration_ends_in_a_refusal() {
    for server in both().await {
        server.model("m").await;
        let run = server.run().await;
        let uri = &run.artifact_uri;
        server.file(uri, "model/MLmodel").await;
        let (sender, content) = tokio::sync::mpsc::channel::<Result<&[u8], std::io::Error>>(1);
        let place = uri.strip_prefix("mlflow-artifacts:/").unwrap();
        let upload = Request::builder()
            .method(Method::PUT)
            .uri(format!(
                "/api/2.0/mlflow-artifacts/artifacts/{place}/model/MLmodel"
            ))
            .body(Body::from_stream(ReceiverStream::new(content)))
            .unwrap();
        let register = async {
            // The second is only taken once the upload has read the first.
            sender.send(Ok(b"EV")).await.unwrap();
            sender.send(Ok(b"I")).await.unwrap();
            let body = json!({"name": "m", "source": format!("runs:/{}/model", run.run_id)});
            server.post("model-versions/create", body).await.ok();
            sender.send(Ok(b"L")).await.unwrap();
            drop(sender);
        };
        let (answer, ()) =
            tokio::join!(send_as(&server.router, key(Role::Runner), upload), register);
        assert_eq!(answer.status, 403, "{}", server.name);
        let read = format!("/api/2.0/mlflow-artifacts/artifacts/{place}/model/MLmodel");
        let local = Identity::Local;
        let kept = server.send_as(local, Method::GET, &read, Value::Null).await;
        assert_eq!(kept.text(), "x", "{}", server.name);
    }
}

#[tokio::test]
async fn a_job_changes_what_it_made_unless_another_registered_it() {
    for server in both().await {
        server.model("m").await;
        for (registrar, expected) in [(job("m-1"), 200), (Identity::Local, 403)] {
            let body = json!({"experiment_id": "0"});
            let path = "/api/2.0/mlflow/runs/create";
            let made = server.send_as(job("m-1"), Method::POST, path, body).await;
            let info = made.ok()["run"]["info"].clone();
            let (uri, run_id) = (info["artifact_uri"].as_str().unwrap(), &info["run_id"]);
            server.file(uri, "model/MLmodel").await;
            let body = json!({"name": "m", "run_id": run_id, "source": format!("{uri}/model")});
            let path = "/api/2.0/mlflow/model-versions/create";
            server
                .send_as(registrar, Method::POST, path, body)
                .await
                .ok();
            for (method, path) in [(Method::PUT, "model/MLmodel"), (Method::DELETE, "model")] {
                let answer = change(&server, job("m-1"), method, uri, path).await;
                assert_eq!(answer, expected, "{}: {path}", server.name);
            }
            let others = change(&server, job("m-2"), Method::PUT, uri, "x").await;
            assert_eq!(others, 403);
        }
    }
}
