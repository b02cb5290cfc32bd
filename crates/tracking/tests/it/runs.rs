//! Runs: create, read, update, delete.

use serde_json::{Value, json};

use crate::server::{Server, both};

async fn get(server: &Server, run_id: &str) -> Value {
    let got = server.get(&format!("runs/get?run_id={run_id}")).await.ok();
    got["run"].clone()
}

#[tokio::test]
async fn a_run_is_made_and_read_back() {
    for server in both().await {
        let made = server
            .post(
                "runs/create",
                json!({
                    "experiment_id": "0", "user_id": "me", "start_time": "1700000000000", "run_name": "first",
                    "tags": [{"key": "b", "value": "2"}, {"key": "a", "value": "1"}, {"key": "b", "value": "3"}],
                    "unknown": {"field": 1},
                }),
            )
            .await
            .ok();
        let run_id = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        assert_eq!(made["run"], get(&server, &run_id).await, "{}", server.name);
        let text = made.to_string().replace(&run_id, "RUN");
        let run: Value = serde_json::from_str(&text).unwrap();
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(run["run"], @r#"
            {
              "data": {
                "tags": [
                  {
                    "key": "a",
                    "value": "1"
                  },
                  {
                    "key": "b",
                    "value": "3"
                  },
                  {
                    "key": "mlflow.runName",
                    "value": "first"
                  }
                ]
              },
              "info": {
                "artifact_uri": "mlflow-artifacts:/0/RUN/artifacts",
                "experiment_id": "0",
                "lifecycle_stage": "active",
                "run_id": "RUN",
                "run_name": "first",
                "run_uuid": "RUN",
                "start_time": 1700000000000,
                "status": "RUNNING",
                "user_id": "me"
              },
              "inputs": {},
              "outputs": {}
            }
            "#);
        }
    }
}

#[tokio::test]
async fn a_runs_name_and_its_tag_are_the_same_thing() {
    for server in both().await {
        let nameless = server
            .post("runs/create", json!({"experiment_id": "0"}))
            .await
            .ok();
        assert_eq!(
            nameless["run"]["info"]["run_name"]
                .as_str()
                .unwrap()
                .split('-')
                .count(),
            3
        );
        let tags = json!([{"key": "mlflow.runName", "value": "tagged"}]);
        let made = server
            .post("runs/create", json!({"experiment_id": "0", "tags": tags}))
            .await
            .ok();
        assert_eq!(made["run"]["info"]["run_name"], "tagged");
        let both_names = json!({"experiment_id": "0", "tags": tags, "run_name": "other"});
        assert_eq!(server.post("runs/create", both_names).await.error().0, 400);

        let id = made["run"]["info"]["run_id"].as_str().unwrap();
        let updated = server
            .post("runs/update", json!({"run_id": id, "run_name": "new"}))
            .await
            .ok();
        assert_eq!(updated["run_info"]["run_name"], "new");
        assert_eq!(get(&server, id).await["data"]["tags"][0]["value"], "new");
        let tag = json!({"run_id": id, "key": "mlflow.runName", "value": "newer"});
        server.post("runs/set-tag", tag).await.ok();
        assert_eq!(get(&server, id).await["info"]["run_name"], "newer");
    }
}

#[tokio::test]
async fn a_run_ends_and_unknown_statuses_are_ignored() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let update = json!({"run_uuid": id, "status": "FINISHED", "end_time": 17});
        let updated = server.post("runs/update", update).await.ok();
        assert_eq!(updated["run_info"]["status"], "FINISHED");
        assert_eq!(updated["run_info"]["end_time"], 17);
        server
            .post("runs/update", json!({"run_id": id, "status": "ZZZ"}))
            .await
            .ok();
        assert_eq!(get(&server, &id).await["info"]["status"], "FINISHED");
        server
            .post("runs/update", json!({"run_id": id, "status": 4}))
            .await
            .ok();
        let info = get(&server, &id).await["info"].clone();
        assert_eq!(
            (&info["status"], &info["end_time"]),
            (&json!("FAILED"), &json!(17))
        );
    }
}

#[tokio::test]
async fn a_deleted_run_is_read_but_not_written() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let run = json!({"run_id": id});
        for _ in 0..2 {
            server.post("runs/delete", run.clone()).await.ok();
        }
        assert_eq!(
            get(&server, &id).await["info"]["lifecycle_stage"],
            "deleted"
        );
        for (route, body) in [
            (
                "runs/set-tag",
                json!({"run_id": id, "key": "a", "value": "b"}),
            ),
            (
                "runs/delete-tag",
                json!({"run_id": id, "key": "mlflow.runName"}),
            ),
            (
                "runs/log-parameter",
                json!({"run_id": id, "key": "a", "value": "b"}),
            ),
            (
                "runs/log-metric",
                json!({"run_id": id, "key": "a", "value": 1, "timestamp": 1}),
            ),
            ("runs/log-batch", json!({"run_id": id})),
            ("runs/log-inputs", json!({"run_id": id})),
            ("runs/outputs", json!({"run_id": id, "models": []})),
            ("runs/update", json!({"run_id": id, "status": "FINISHED"})),
        ] {
            let refused = server.post(route, body).await;
            assert_eq!(
                refused.error(),
                (400, "INVALID_PARAMETER_VALUE".to_owned()),
                "{route}"
            );
        }
        for _ in 0..2 {
            server.post("runs/restore", run.clone()).await.ok();
        }
        let tag = json!({"run_id": id, "key": "a", "value": "b"});
        server.post("runs/set-tag", tag).await.ok();
    }
}

#[tokio::test]
async fn an_unknown_run_is_404() {
    for server in both().await {
        let unknown = "0".repeat(32);
        assert_eq!(
            server
                .get(&format!("runs/get?run_id={unknown}"))
                .await
                .error()
                .0,
            404
        );
        for route in ["update", "delete", "restore", "log-batch", "log-inputs"] {
            let refused = server
                .post(&format!("runs/{route}"), json!({"run_id": unknown}))
                .await;
            assert_eq!(
                refused.error(),
                (404, "RESOURCE_DOES_NOT_EXIST".to_owned()),
                "{route}"
            );
        }
        for experiment in ["77", "abc"] {
            let refused = server
                .post("runs/create", json!({"experiment_id": experiment}))
                .await;
            assert!([400, 404].contains(&refused.error().0), "{experiment}");
        }
    }
}
