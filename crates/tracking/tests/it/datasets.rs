//! Datasets and logged models that runs read and made.

use serde_json::{Value, json};

use crate::server::both;

fn input(name: &str, context: &str) -> Value {
    json!({
        "tags": [{"key": "mlflow.data.context", "value": context}],
        "dataset": {"name": name, "digest": "d1", "source_type": "local", "source": "{}", "profile": "{\"rows\": 3}"},
    })
}

#[tokio::test]
async fn inputs_and_outputs_are_read_back() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let body = json!({"run_id": id, "datasets": [input("b", "train"), input("a", "test")], "models": [{"model_id": "m-1"}]});
        for _ in 0..2 {
            server.post("runs/log-inputs", body.clone()).await.ok();
        }
        let outputs = json!({"run_id": id, "models": [{"model_id": "m-2", "step": "3"}]});
        server.post("runs/outputs", outputs).await.ok();
        let run = server.get(&format!("runs/get?run_id={id}")).await.ok()["run"].clone();
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(json!([run["inputs"], run["outputs"]]), @r#"
            [
              {
                "dataset_inputs": [
                  {
                    "dataset": {
                      "digest": "d1",
                      "name": "b",
                      "profile": "{\"rows\": 3}",
                      "source": "{}",
                      "source_type": "local"
                    },
                    "tags": [
                      {
                        "key": "mlflow.data.context",
                        "value": "train"
                      }
                    ]
                  },
                  {
                    "dataset": {
                      "digest": "d1",
                      "name": "a",
                      "profile": "{\"rows\": 3}",
                      "source": "{}",
                      "source_type": "local"
                    },
                    "tags": [
                      {
                        "key": "mlflow.data.context",
                        "value": "test"
                      }
                    ]
                  }
                ],
                "model_inputs": [
                  {
                    "model_id": "m-1"
                  }
                ]
              },
              {
                "model_outputs": [
                  {
                    "model_id": "m-2",
                    "step": 3
                  }
                ]
              }
            ]
            "#);
        }
    }
}

#[tokio::test]
async fn runs_of_a_page_that_read_the_same_datasets_have_each_its_own_tags() {
    for server in both().await {
        for run in ["first", "second"] {
            let id = server.run(None).await.run_id;
            let mut tagged = input("a", run);
            let tags = tagged["tags"].as_array_mut().unwrap();
            tags.push(json!({"key": "of", "value": run}));
            let body = json!({"run_id": id, "datasets": [input("b", "both"), tagged]});
            server.post("runs/log-inputs", body).await.ok();
            let tag = json!({"run_id": id, "key": "run", "value": run});
            server.post("runs/set-tag", tag).await.ok();
        }
        server.run(None).await;
        let found = json!({"experiment_ids": ["0"], "filter": "tags.run LIKE '%'"});
        let found = server.post("runs/search", found).await.ok();
        let runs = found["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2, "{}", server.name);
        for run in runs {
            let tags = run["data"]["tags"].as_array().unwrap();
            let name = &tags.iter().find(|tag| tag["key"] == "run").unwrap()["value"];
            let inputs = &run["inputs"]["dataset_inputs"];
            let of = json!({"key": "of", "value": name});
            let context = json!({"key": "mlflow.data.context", "value": name});
            assert_eq!(inputs[0]["dataset"]["name"], "b", "{}", server.name);
            assert_eq!(inputs[1]["dataset"]["name"], "a", "{}", server.name);
            assert_eq!(inputs[1]["tags"], json!([context, of]), "{}", server.name);
            assert_eq!(inputs[0]["tags"][0]["value"], "both", "{}", server.name);
            assert_eq!(inputs.as_array().unwrap().len(), 2, "{}", server.name);
        }
    }
}

#[tokio::test]
async fn an_experiments_datasets_are_listed_once_per_context() {
    for server in both().await {
        for context in ["train", "train", "test"] {
            let id = server.run(None).await.run_id;
            let body = json!({"run_id": id, "datasets": [input("a", context)]});
            server.post("runs/log-inputs", body).await.ok();
        }
        let found = server
            .post(
                "experiments/search-datasets",
                json!({"experiment_ids": ["0"]}),
            )
            .await
            .ok();
        let summary = |context: &str| json!({"experiment_id": "0", "name": "a", "digest": "d1", "context": context});
        assert_eq!(
            found["dataset_summaries"],
            json!([summary("test"), summary("train")])
        );
        assert_eq!(
            server
                .post("experiments/search-datasets", json!({}))
                .await
                .error()
                .0,
            400
        );
        let many: Vec<String> = (0..21).map(|id| id.to_string()).collect();
        assert_eq!(
            server
                .post(
                    "experiments/search-datasets",
                    json!({"experiment_ids": many})
                )
                .await
                .error()
                .0,
            400
        );
    }
}

#[tokio::test]
async fn a_dataset_needs_its_parts() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        for part in ["name", "digest", "source_type", "source"] {
            let mut wrong = input("a", "train");
            wrong["dataset"][part] = json!("");
            let refused = server
                .post(
                    "runs/log-inputs",
                    json!({"run_id": id, "datasets": [wrong]}),
                )
                .await;
            assert_eq!(refused.error().0, 400, "{part}");
        }
        let mut long = input("a", "train");
        long["dataset"]["digest"] = json!("x".repeat(37));
        assert_eq!(
            server
                .post("runs/log-inputs", json!({"run_id": id, "datasets": [long]}))
                .await
                .error()
                .0,
            400
        );
    }
}
