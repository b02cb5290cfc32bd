//! Logged models: their life, their searches, and who may change them.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use web::Identity;

use crate::server::{Server, both, job};

async fn create(server: &Server, name: &str, run_id: &str) -> Value {
    let body = json!({
        "experiment_id": "0",
        "name": name,
        "source_run_id": run_id,
        "model_type": "Agent",
        "params": [{"key": "depth", "value": "3"}],
        "tags": [{"key": "team", "value": "a"}],
    });
    server.post("logged-models", body).await.ok()["model"].take()
}

fn id(model: &Value) -> &str {
    model["info"]["model_id"].as_str().unwrap()
}

async fn found(server: &Server, filter: &str) -> Vec<String> {
    let body = json!({"experiment_ids": ["0"], "filter": filter});
    let found = server.post("logged-models/search", body).await.ok();
    let names = found["models"].as_array().cloned().unwrap_or_default();
    names
        .iter()
        .map(|model| model["info"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_logged_model_is_made_completed_and_deleted() {
    for server in both().await {
        let run = server.run(None).await;
        let model = create(&server, "model", &run.run_id).await;
        let path = format!("logged-models/{}", id(&model));
        assert_eq!(model["info"]["status"], "LOGGED_MODEL_PENDING");
        assert_eq!(
            model["info"]["artifact_uri"],
            format!("mlflow-artifacts:/0/models/{}/artifacts", id(&model))
        );

        let body = json!({"status": 2, "model_id": id(&model)});
        let ready = server.patch(&path, body).await.ok();
        assert_eq!(ready["model"]["info"]["status"], "LOGGED_MODEL_READY");
        let tags = json!({"tags": [{"key": "team", "value": "b"}, {"key": "x", "value": ""}]});
        server.patch(&format!("{path}/tags"), tags).await.ok();
        let params =
            json!({"params": [{"key": "depth", "value": "3"}, {"key": "n", "value": "1"}]});
        server.post(&format!("{path}/params"), params).await.ok();
        let other = json!({"params": [{"key": "depth", "value": "4"}]});
        let refused = server.post(&format!("{path}/params"), other).await;
        assert_eq!(refused.error(), (400, "INVALID_PARAMETER_VALUE".into()));

        let got = server.get(&path).await.ok();
        assert_eq!(
            got["model"]["data"]["params"],
            json!([{"key": "depth", "value": "3"}, {"key": "n", "value": "1"}])
        );
        assert_eq!(
            got["model"]["info"]["tags"],
            json!([{"key": "team", "value": "b"}, {"key": "x", "value": ""}])
        );
        assert_eq!(got["model"]["info"]["source_run_id"], run.run_id);

        let tag = format!("/api/2.0/mlflow/{path}/tags/x");
        server.send(Method::DELETE, &tag, Body::empty()).await.ok();
        let again = server.send(Method::DELETE, &tag, Body::empty()).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND, "{}", server.name);

        let whole = format!("/api/2.0/mlflow/{path}");
        server
            .send(Method::DELETE, &whole, Body::empty())
            .await
            .ok();
        let gone = server.get(&path).await;
        assert_eq!(gone.error(), (404, "RESOURCE_DOES_NOT_EXIST".into()));
        assert_eq!(found(&server, "").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn searches_filter_order_and_page() {
    for server in both().await {
        let run = server.run(None).await;
        for name in ["a", "b", "c"] {
            let model = create(&server, name, &run.run_id).await;
            let path = format!("logged-models/{}", id(&model));
            let tag = json!({"tags": [{"key": "the name", "value": name}]});
            server.patch(&format!("{path}/tags"), tag).await.ok();
            if name == "b" {
                server
                    .patch(&path, json!({"status": "LOGGED_MODEL_READY"}))
                    .await
                    .ok();
            }
        }
        let run_filter = format!("source_run_id = '{}' AND name != 'a'", run.run_id);
        for (filter, mut expected) in [
            ("name = 'b'", vec!["b"]),
            ("attributes.name IN ('a', 'c')", vec!["a", "c"]),
            ("name ILIKE '%B%'", vec!["b"]),
            ("name LIKE 'B'", vec![]),
            ("tags.`the name` = 'c'", vec!["c"]),
            (
                "params.depth = '3' AND tags.team = 'a'",
                vec!["a", "b", "c"],
            ),
            ("params.depth = '4'", vec![]),
            ("status = 'READY'", vec!["b"]),
            ("creation_timestamp > 1 AND name = 'a'", vec!["a"]),
            ("metrics.loss < 1", vec![]),
            (run_filter.as_str(), vec!["b", "c"]),
        ] {
            let mut names = found(&server, filter).await;
            names.sort();
            expected.sort_unstable();
            assert_eq!(names, expected, "{} {filter}", server.name);
        }
        for wrong in [
            "name > 'a'",
            "nothing = 'x'",
            "metrics.a = 'x'",
            "a OR b",
            "name = 'x",
        ] {
            let body = json!({"experiment_ids": ["0"], "filter": wrong});
            let refused = server.post("logged-models/search", body).await;
            assert_eq!(refused.error().0, 400, "{wrong}");
        }

        let mut body = json!({
            "experiment_ids": ["0"],
            "max_results": 2,
            "order_by": [
                {"field_name": "metrics.loss", "ascending": false},
                {"field_name": "name", "ascending": true},
            ],
        });
        let first = server.post("logged-models/search", body.clone()).await.ok();
        let names: Vec<_> = first["models"].as_array().unwrap().iter().collect();
        assert_eq!(names[0]["info"]["name"], "a");
        assert_eq!(names.len(), 2);
        body["page_token"] = first["next_page_token"].clone();
        let second = server.post("logged-models/search", body).await.ok();
        assert_eq!(second["models"][0]["info"]["name"], "c");
        assert!(second.get("next_page_token").is_none());
        let none = json!({"experiment_ids": ["77"]});
        let none = server.post("logged-models/search", none).await.ok();
        assert_eq!(none, json!({}));
    }
}

#[tokio::test]
async fn what_a_job_makes_carries_its_id_and_only_it_may_change_it() {
    for server in both().await {
        let run = server.run(Some("job-1")).await;
        let body = json!({"experiment_id": "0", "name": "m", "source_run_id": run.run_id});
        let made = server
            .json_as(job("job-1"), Method::POST, "logged-models", body.clone())
            .await
            .ok();
        let model_id = id(&made["model"]).to_owned();
        let stolen = server
            .json_as(job("job-2"), Method::POST, "logged-models", body)
            .await;
        assert_eq!(stolen.error(), (403, "PERMISSION_DENIED".into()));

        let of_job = server.tracking.logged_models_of_job("job-1").await.unwrap();
        assert_eq!(of_job[0].model_id, model_id);
        let of_run = server.tracking.logged_models_of_run(&run.run_id).await;
        assert_eq!(of_run.unwrap().len(), 1);

        let path = format!("logged-models/{model_id}");
        for (caller, expected) in [
            (job("job-2"), 403),
            (job("job-1"), 200),
            (Identity::Local, 200),
        ] {
            let status = json!({"status": "LOGGED_MODEL_READY"});
            let answer = server
                .json_as(caller.clone(), Method::PATCH, &path, status)
                .await;
            assert_eq!(answer.status.as_u16(), expected, "{caller:?}");
            let file = format!(
                "/api/2.0/mlflow-artifacts/artifacts/0/models/{model_id}/artifacts/MLmodel"
            );
            let put = server
                .send_as(caller.clone(), Method::PUT, &file, "x")
                .await;
            assert_eq!(put.status.as_u16(), expected, "{caller:?}");
        }
    }
}

#[tokio::test]
async fn the_files_of_a_logged_model_are_listed_and_read() {
    let [server, _] = both().await;
    let run = server.run(None).await;
    let model = create(&server, "model", &run.run_id).await;
    let file = format!(
        "/api/2.0/mlflow-artifacts/artifacts/0/models/{}/artifacts/code/x.py",
        id(&model)
    );
    server.send(Method::PUT, &file, "1").await;
    let path = format!("logged-models/{}/artifacts", id(&model));
    let listed = server
        .get(&format!("{path}/directories?artifact_directory_path=code"))
        .await
        .ok();
    assert_eq!(
        listed["files"],
        json!([{"path": "code/x.py", "is_dir": false, "file_size": 1}])
    );
    let read = server
        .get(&format!("{path}/files?artifact_file_path=code/x.py"))
        .await;
    assert_eq!(read.body, "1");
    let out = server
        .get(&format!("{path}/files?artifact_file_path=../../x"))
        .await;
    assert_eq!(out.error().0, 400);
}

#[tokio::test]
async fn names_and_experiments_are_checked() {
    let [server, _] = both().await;
    for (body, status) in [
        (json!({"name": "m"}), 400),
        (json!({"experiment_id": "7", "name": "m"}), 404),
        (json!({"experiment_id": "x", "name": "m"}), 400),
        (json!({"experiment_id": "0", "name": "a/b"}), 400),
        (json!({"experiment_id": "0", "name": "../x"}), 400),
        (json!({"experiment_id": "0"}), 200),
    ] {
        let answer = server.post("logged-models", body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
    }
}
