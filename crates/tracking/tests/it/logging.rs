//! What runs log: metrics, params, tags, batches.

use serde_json::{Value, json};

use crate::server::{Server, both};

async fn data(server: &Server, run_id: &str) -> Value {
    let got = server.get(&format!("runs/get?run_id={run_id}")).await.ok();
    got["run"]["data"].clone()
}

fn invalid() -> (u16, String) {
    (400, "INVALID_PARAMETER_VALUE".to_owned())
}

#[tokio::test]
async fn the_latest_metric_is_the_greatest_by_step_then_time_then_value() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let log = |value: Value, timestamp: i64, step: i64| json!({"run_id": id, "key": "m", "value": value, "timestamp": timestamp, "step": step});
        for (value, timestamp, step, latest) in [
            (json!(5), 10, 1, json!(5.0)),
            (json!(1), 5, 2, json!(1.0)),
            (json!(9), 99, 1, json!(1.0)),
            (json!(0.5), 5, 2, json!(1.0)),
            (json!(2), 5, 2, json!(2.0)),
            (json!("NaN"), 6, 2, json!("NaN")),
            (json!("-Infinity"), 7, 2, json!(f64::MIN)),
            (json!("Infinity"), 7, 2, json!(f64::MAX)),
            (json!(0.0), 0, -5, json!(f64::MAX)),
        ] {
            server
                .post("runs/log-metric", log(value.clone(), timestamp, step))
                .await
                .ok();
            let data = data(&server, &id).await;
            assert_eq!(
                data["metrics"][0]["value"], latest,
                "{} after {value}",
                server.name
            );
        }
    }
}

#[tokio::test]
async fn nan_counts_as_zero_among_the_latest() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        for value in [json!(-1), json!("NaN"), json!(-2)] {
            let point = json!({"run_id": id, "key": "m", "value": value, "timestamp": 1});
            server.post("runs/log-metric", point).await.ok();
        }
        assert_eq!(data(&server, &id).await["metrics"][0]["value"], "NaN");
    }
}

#[tokio::test]
async fn a_point_needs_its_key_value_and_timestamp() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        for (field, wrong) in [
            ("key", json!(null)),
            ("key", json!("")),
            ("key", json!("../x")),
            ("key", json!("/x")),
            ("key", json!("a%b")),
            ("key", json!("x".repeat(251))),
            ("value", json!(null)),
            ("value", json!("high")),
            ("value", json!(true)),
            ("timestamp", json!(null)),
            ("timestamp", json!(1.7)),
            ("timestamp", json!(-1)),
            ("step", json!("x")),
            ("run_id", json!("")),
        ] {
            let mut body = json!({"run_id": id, "key": "m", "value": 1, "timestamp": 1, "step": 1});
            body[field] = wrong.clone();
            let refused = server.post("runs/log-metric", body).await;
            assert_eq!(refused.error(), invalid(), "{field}: {wrong}");
        }
        assert_eq!(data(&server, &id).await.get("metrics"), None);
    }
}

#[tokio::test]
async fn a_param_is_set_once() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let param = |value: &str| json!({"run_id": id, "key": "p", "value": value});
        server.post("runs/log-parameter", param("1")).await.ok();
        server.post("runs/log-parameter", param("1")).await.ok();
        let refused = server.post("runs/log-parameter", param("2")).await;
        assert_eq!(refused.error(), invalid());
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("value='1'") && message.contains("new value '2'"),
            "{message}"
        );
        assert_eq!(
            data(&server, &id).await["params"],
            json!([{"key": "p", "value": "1"}])
        );
    }
}

#[tokio::test]
async fn long_values_are_cut_and_empty_ones_kept() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let long = "é".repeat(9_000);
        let batch = json!({
            "run_id": id,
            "params": [{"key": "long", "value": long}, {"key": "none"}, {"key": "empty", "value": ""}],
            "tags": [{"key": "long", "value": long}, {"key": "empty", "value": ""}],
        });
        for _ in 0..2 {
            server.post("runs/log-batch", batch.clone()).await.ok();
        }
        let data = data(&server, &id).await;
        let lengths = |list: &str| -> Vec<usize> {
            let list = data[list].as_array().unwrap().iter();
            list.map(|pair| pair["value"].as_str().unwrap().chars().count())
                .collect()
        };
        assert_eq!(lengths("params"), [0, 6_000, 0]);
        assert_eq!(lengths("tags")[..2], [0, 8_000]);
    }
}

#[tokio::test]
async fn tags_are_overwritten_and_a_missing_one_is_404() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        for value in ["1", "2"] {
            let tag = json!({"run_id": id, "key": "t", "value": value});
            server.post("runs/set-tag", tag).await.ok();
        }
        assert_eq!(
            data(&server, &id).await["tags"][1],
            json!({"key": "t", "value": "2"})
        );
        let tag = json!({"run_id": id, "key": "t"});
        server.post("runs/delete-tag", tag.clone()).await.ok();
        let again = server.post("runs/delete-tag", tag).await;
        assert_eq!(again.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
    }
}

#[tokio::test]
async fn a_batch_is_logged_whole() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let metrics: Vec<Value> = (0..1_000)
            .map(|i| json!({"key": format!("m{}", i % 10), "value": i, "timestamp": i, "step": i / 10}))
            .collect();
        server
            .post("runs/log-batch", json!({"run_id": id, "metrics": metrics}))
            .await
            .ok();
        let latest = data(&server, &id).await["metrics"].clone();
        assert_eq!(latest.as_array().unwrap().len(), 10);
        assert_eq!(
            latest[3],
            json!({"key": "m3", "value": 993.0, "timestamp": 993, "step": 99})
        );
        // A client that repeats a batch after a lost answer adds nothing.
        server
            .post("runs/log-batch", json!({"run_id": id, "metrics": metrics}))
            .await
            .ok();
        let history = server
            .get(&format!("metrics/get-history?run_id={id}&metric_key=m3"))
            .await
            .ok();
        assert_eq!(history["metrics"].as_array().unwrap().len(), 100);
        server
            .post("runs/log-batch", json!({"run_id": id}))
            .await
            .ok();
    }
}

#[tokio::test]
async fn a_batch_with_something_wrong_leaves_nothing() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let param = json!({"run_id": id, "key": "p", "value": "1"});
        server.post("runs/log-parameter", param).await.ok();
        let before = data(&server, &id).await;
        let point = json!({"key": "m", "value": 1, "timestamp": 1});
        let many = |count: usize, prefix: &str| -> Vec<Value> {
            (0..count)
                .map(|i| json!({"key": format!("{prefix}{i}"), "value": "1"}))
                .collect()
        };
        for (wrong, said) in [
            (
                json!({"metrics": [point], "tags": [{"key": "t", "value": "v"}], "params": [{"key": "p", "value": "2"}]}),
                "Changing param values",
            ),
            (
                json!({"params": [{"key": "a", "value": "1"}, {"key": "a", "value": "1"}]}),
                "Duplicate parameter keys",
            ),
            (
                json!({"metrics": vec![point.clone(); 1_001]}),
                "at most 1000 metrics",
            ),
            (json!({"params": many(101, "p")}), "at most 100 params"),
            (json!({"tags": many(101, "t")}), "at most 100 tags"),
            (
                json!({"metrics": vec![point.clone(); 901], "params": many(100, "q")}),
                "metrics, params, and tags",
            ),
            (
                json!({"metrics": [point, {"key": "m", "timestamp": 1}]}),
                "metrics[1].value",
            ),
            (
                json!({"metrics": [point, {"key": "a//b", "value": 1, "timestamp": 1}]}),
                "metrics[1].name",
            ),
            (json!({"tags": [{"value": "v"}]}), "tags[0].key"),
            (
                json!({"metrics": "x"}),
                "'metrics' supplied: invalid type: string \"x\", expected an array",
            ),
            (json!({"params": 7}), "'params'"),
        ] {
            let mut body = wrong.clone();
            body["run_id"] = json!(id);
            let refused = server.post("runs/log-batch", body).await;
            assert_eq!(refused.error(), invalid(), "{wrong}");
            let message = refused.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(said), "{message}");
        }
        assert_eq!(data(&server, &id).await, before, "{}", server.name);
    }
}

#[tokio::test]
async fn a_client_of_2_x_records_its_models_in_a_tag() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let model = |path: &str| {
            let model = json!({"run_id": id, "artifact_path": path, "utc_time_created": "now", "flavors": {"x": {}}});
            json!({"run_id": id, "model_json": model.to_string()})
        };
        for path in ["a", "b"] {
            server.post("runs/log-model", model(path)).await.ok();
        }
        let tags = data(&server, &id).await["tags"].clone();
        assert_eq!(tags[0]["key"], "mlflow.log-model.history");
        let models: Value = serde_json::from_str(tags[0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(models[1]["artifact_path"], "b");
        for wrong in ["{", "{}", "[]"] {
            let body = json!({"run_id": id, "model_json": wrong});
            assert_eq!(
                server.post("runs/log-model", body).await.error(),
                invalid(),
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn many_writers_of_one_run_do_not_block_one_another() {
    for server in both().await {
        let run = server.run(None).await;
        let tasks: Vec<_> = (0..16_i64)
            .map(|writer| {
                let (tracking, run_id) = (server.tracking.clone(), run.run_id.clone());
                tokio::spawn(async move {
                    for step in 0..10 {
                        let metrics = (0..20).map(|i| tracking::LoggedMetric {
                            metric: tracking::Metric {
                                key: format!("m{}", (i + writer) % 20),
                                value: writer as f64,
                                timestamp: step,
                                step,
                            },
                            model_id: None,
                            dataset_name: None,
                            dataset_digest: None,
                        });
                        let batch = tracking::Batch {
                            metrics: metrics.collect(),
                            tags: vec![("last".to_owned(), writer.to_string())],
                            ..tracking::Batch::default()
                        };
                        tracking.log_batch(&run_id, batch, None).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let metrics = data(&server, &run.run_id).await["metrics"].clone();
        assert_eq!(metrics.as_array().unwrap().len(), 20);
        assert_eq!(metrics[0]["value"], 15.0);
        assert_eq!(metrics[0]["step"], 9);
    }
}

fn batch_of(key: &str, step: i64) -> tracking::Batch {
    let metric = tracking::Metric {
        key: key.to_owned(),
        value: 0.5,
        timestamp: step,
        step,
    };
    tracking::Batch {
        metrics: vec![tracking::LoggedMetric {
            metric,
            model_id: None,
            dataset_name: None,
            dataset_digest: None,
        }],
        ..tracking::Batch::default()
    }
}

#[tokio::test]
async fn writers_that_come_together_are_each_told_what_became_of_theirs() {
    for server in both().await {
        let run = server.run(None).await.run_id;
        let of_job = server.run(Some("j1")).await.run_id;
        let deleted = server.run(None).await.run_id;
        let body = json!({"run_id": deleted});
        server.post("runs/delete", body).await.ok();
        let tasks: Vec<_> = (0..40_i64)
            .map(|step| {
                let (run_id, job_id, status) = match step % 5 {
                    0 => (of_job.clone(), Some("j1"), None),
                    // The same run with and without its job.
                    1 => (of_job.clone(), None, None),
                    2 => ("0".repeat(32), None, Some(404)),
                    3 if step % 2 == 0 => (deleted.clone(), None, Some(400)),
                    3 => (run.clone(), Some("j1"), Some(403)),
                    _ => (run.clone(), None, None),
                };
                let tracking = server.tracking.clone();
                tokio::spawn(async move {
                    let logged = tracking
                        .log_batch(&run_id, batch_of("m", step), job_id)
                        .await;
                    let refused = logged.err().map(|error| error.code().status().as_u16());
                    assert_eq!(refused, status, "{step}");
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        for (run_id, count, last) in [(&run, 8, 39), (&of_job, 16, 36), (&deleted, 0, 0)] {
            let path = format!("metrics/get-history?run_id={run_id}&metric_key=m");
            let history = server.get(&path).await.ok();
            let points = history["metrics"].as_array().cloned().unwrap_or_default();
            assert_eq!(points.len(), count, "{}", server.name);
            if count > 0 {
                let latest = data(&server, run_id).await["metrics"][0].clone();
                assert_eq!(
                    (latest["step"].clone(), latest["key"].clone()),
                    (json!(last), json!("m"))
                );
            }
        }
    }
}

#[tokio::test]
async fn points_that_are_there_already_stay_as_they_are_and_new_ones_beside_them_are_added() {
    for server in both().await {
        let run = server.run(None).await.run_id;
        let batch = |steps: [i64; 4]| {
            let metrics = steps
                .map(|step| json!({"key": "m", "value": 0.5, "timestamp": step, "step": step}));
            json!({"run_id": run, "metrics": metrics})
        };
        for steps in [[1, 2, 2, 3], [1, 2, 2, 3], [3, 4, 0, 4]] {
            let sent = [(); 4].map(|()| server.post("runs/log-batch", batch(steps)));
            for answer in futures_util::future::join_all(sent).await {
                answer.ok();
            }
        }
        let path = format!("metrics/get-history?run_id={run}&metric_key=m");
        let history = server.get(&path).await.ok();
        let points = history["metrics"].as_array().unwrap().iter();
        let steps: Vec<_> = points.map(|point| point["step"].as_i64()).collect();
        assert_eq!(
            steps,
            (0..5).map(Some).collect::<Vec<_>>(),
            "{}",
            server.name
        );
        let latest = data(&server, &run).await["metrics"][0]["step"].clone();
        assert_eq!(latest, 4, "{}", server.name);
    }
}

#[tokio::test]
async fn runs_that_start_together_are_each_told_what_became_of_theirs() {
    for server in both().await {
        let gone = server.post("experiments/create", json!({"name": "gone"}));
        let gone = gone.await.ok()["experiment_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let body = json!({"experiment_id": gone});
        server.post("experiments/delete", body).await.ok();
        let tasks: Vec<_> = (0..30_i64)
            .map(|number| {
                let (experiment_id, status) = match number % 3 {
                    0 => (gone.clone(), Some(400)),
                    1 => ("999".to_owned(), Some(404)),
                    _ => ("0".to_owned(), None),
                };
                let new = tracking::NewRun {
                    experiment_id,
                    name: Some(format!("run {number}")),
                    start_time: Some(number),
                    tags: vec![("number".to_owned(), number.to_string())],
                    job_id: (number % 2 == 0).then(|| "j1".to_owned()),
                    ..tracking::NewRun::default()
                };
                let tracking = server.tracking.clone();
                tokio::spawn(async move {
                    let made = tracking.create_run(new).await;
                    let refused = made
                        .as_ref()
                        .err()
                        .map(|error| error.code().status().as_u16());
                    assert_eq!(refused, status, "{number}");
                    Some((number, made.ok()?))
                })
            })
            .collect();
        for task in tasks {
            let Some((number, made)) = task.await.unwrap() else {
                continue;
            };
            let record = server.tracking.get_run_record(&made.run_id).await.unwrap();
            assert_eq!(record.run, made, "{}", server.name);
            assert_eq!(made.name, format!("run {number}"));
            let tag = ("number".to_owned(), number.to_string());
            assert!(record.tags.contains(&tag), "{:?}", record.tags);
            let of_job = record.tags.iter().any(|(key, _)| key == tracking::JOB_TAG);
            assert_eq!(of_job, number % 2 == 0);
        }
    }
}
