//! What a job makes is stamped, and a job writes nothing else.

use std::sync::Arc;

use axum::http::Method;
use serde_json::{Value, json};
use tracking::RunStatus;
use web::testing::request;

use crate::server::{Server, both, both_tracking, job};

async fn post_as(server: &Server, job_id: &str, path: &str, body: Value) -> (u16, Value) {
    let answer = server.json_as(job(job_id), Method::POST, path, body).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test]
async fn a_jobs_runs_carry_its_id_whatever_it_says() {
    for server in both().await {
        let new = json!({"experiment_id": "0"});
        let (status, made) = post_as(&server, "j1", "runs/create", new).await;
        assert_eq!(status, 200);
        let id = made["run"]["info"]["run_id"].as_str().unwrap();
        assert_eq!(
            made["run"]["data"]["tags"][0],
            json!({"key": "asgard.job_id", "value": "j1"})
        );
        let forge = json!({"run_id": id, "key": "asgard.job_id", "value": "j2"});
        for verb in ["set-tag", "delete-tag"] {
            let path = format!("runs/{verb}");
            assert_eq!(post_as(&server, "j1", &path, forge.clone()).await.0, 400);
        }
        let got = server.get(&format!("runs/get?run_id={id}")).await.ok();
        assert_eq!(got["run"]["data"]["tags"][0]["value"], "j1");
        assert_eq!(
            server.tracking.runs_of_job("j1").await.unwrap()[0].run_id,
            id
        );
    }
}

#[tokio::test]
async fn tags_with_the_servers_prefix_are_refused_wherever_a_caller_sets_them() {
    for server in both().await {
        let run = server.run(None).await.run_id;
        let tags = json!([{"key": "asgard.job_id", "value": "forged"}]);
        let one = json!({"key": "asgard.x", "value": "y"});
        let with = |mut body: Value, more: &Value| {
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            body
        };
        let tagged = json!({"tags": tags});
        for (path, body) in [
            ("runs/create", with(json!({"experiment_id": "0"}), &tagged)),
            ("runs/log-batch", with(json!({"run_id": run}), &tagged)),
            ("runs/set-tag", with(json!({"run_id": run}), &one)),
            ("experiments/create", with(json!({"name": "e"}), &tagged)),
            (
                "experiments/set-experiment-tag",
                with(json!({"experiment_id": "0"}), &one),
            ),
            (
                "logged-models",
                with(json!({"experiment_id": "0", "name": "m"}), &tagged),
            ),
        ] {
            let answer = server.post(path, body).await;
            assert_eq!(
                answer.error(),
                (400, "INVALID_PARAMETER_VALUE".into()),
                "{path}"
            );
            assert!(answer.json()["message"].to_string().contains("reserved"));
        }
        assert_eq!(server.tracking.runs_of_job("forged").await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_job_writes_only_its_own_runs() {
    for server in both().await {
        let own = server.run(Some("j1")).await.run_id;
        let others = server.run(Some("j2")).await.run_id;
        let persons = server.run(None).await.run_id;
        for (route, body) in [
            ("runs/set-tag", json!({"key": "a", "value": "b"})),
            ("runs/delete-tag", json!({"key": "a"})),
            ("runs/log-parameter", json!({"key": "a", "value": "b"})),
            (
                "runs/log-metric",
                json!({"key": "a", "value": 1, "timestamp": 1}),
            ),
            (
                "runs/log-batch",
                json!({"tags": [{"key": "a", "value": "c"}]}),
            ),
            ("runs/log-inputs", json!({})),
            ("runs/outputs", json!({"models": []})),
            ("runs/update", json!({"status": "FINISHED"})),
            ("runs/delete", json!({})),
            ("runs/restore", json!({})),
        ] {
            for (run, expected) in [(&own, 200), (&others, 403), (&persons, 403)] {
                let mut body = body.clone();
                body["run_id"] = json!(run);
                let (status, answer) = post_as(&server, "j1", route, body).await;
                assert_eq!(status, expected, "{route}: {answer}");
                if status == 403 {
                    assert_eq!(answer["error_code"], "PERMISSION_DENIED");
                }
            }
        }
        let got = server.get(&format!("runs/get?run_id={others}")).await.ok();
        assert_eq!(got["run"]["info"]["status"], "RUNNING");
    }
}

#[tokio::test]
async fn a_job_makes_and_tags_experiments_but_does_not_delete_them() {
    for server in both().await {
        let (status, made) =
            post_as(&server, "j1", "experiments/create", json!({"name": "a"})).await;
        assert_eq!(status, 200);
        let own = made["experiment_id"].clone();
        for (route, id, expected) in [
            ("experiments/set-experiment-tag", json!("0"), 403),
            ("experiments/delete-experiment-tag", json!("0"), 403),
            ("experiments/update", json!("0"), 403),
            ("experiments/set-experiment-tag", own.clone(), 200),
            ("experiments/delete-experiment-tag", own.clone(), 200),
            ("experiments/update", own.clone(), 200),
            ("experiments/delete", own, 403),
        ] {
            let body = json!({"experiment_id": id, "new_name": "b", "key": "k", "value": "v"});
            let (status, answer) = post_as(&server, "j1", route, body).await;
            assert_eq!(status, expected, "{route} {id}: {answer}");
        }
        let default = server.get("experiments/get?experiment_id=0").await.ok();
        assert_eq!(default["experiment"].get("tags"), None, "{}", server.name);
    }
}

#[tokio::test]
async fn the_experiment_that_an_upload_named_is_its_jobs_own() {
    for server in both_tracking(|tracking| tracking.with_job_experiments(uploads())).await {
        let named = server.tracking.ensure_experiment("churn").await.unwrap();
        let made = json!({"name": "chosen by the script"});
        let (_, chosen) = post_as(&server, "j1", "experiments/create", made).await;
        let chosen = chosen["experiment_id"].as_str().unwrap();
        let scorer = json!({"name": "s", "serialized_scorer": "{}"});
        let tag = json!({"key": "k", "value": "v"});
        for (caller, experiment_id, expected) in [
            ("j1", named.experiment_id.as_str(), 200),
            ("j1", chosen, 200),
            // Another run of the same script.
            ("j1-again", chosen, 200),
            ("j2", named.experiment_id.as_str(), 403),
            ("j2", chosen, 403),
            ("unknown", named.experiment_id.as_str(), 403),
        ] {
            for (path, body) in [
                ("/api/2.0/mlflow/experiments/set-experiment-tag", &tag),
                ("/api/3.0/mlflow/scorers/register", &scorer),
            ] {
                let mut body = body.clone();
                body["experiment_id"] = json!(experiment_id);
                let sent = request(Method::POST, path, Some(&body));
                let answer = server.ask(job(caller), sent).await;
                assert_eq!(answer.status.as_u16(), expected, "{caller} {path} {body}");
            }
        }
    }
}

/// Which experiment the uploads of jobs named.
fn uploads() -> tracking::JobExperiments {
    Arc::new(|job_id| {
        let named = match job_id.as_str() {
            "j1" | "j1-again" => Some("churn"),
            "j2" => Some("other"),
            _ => None,
        };
        Box::pin(async move { Ok(named.map(str::to_owned)) })
    })
}

#[tokio::test]
async fn a_job_says_of_nothing_of_others_that_its_run_made_it_or_that_their_run_did() {
    for server in both().await {
        let own = server.run(Some("j1")).await.run_id;
        let persons = server.run(None).await.run_id;
        let model = json!({"experiment_id": "0", "name": "m"});
        let of = server.post("logged-models", model.clone()).await.ok();
        let theirs = of["model"]["info"]["model_id"].clone();
        let (_, of) = post_as(&server, "j1", "logged-models", model).await;
        let mine = of["model"]["info"]["model_id"].clone();
        for (model_id, expected) in [(mine, 200), (theirs, 403)] {
            let body = json!({"run_id": own, "models": [{"model_id": model_id, "step": 0}]});
            let (status, answer) = post_as(&server, "j1", "runs/outputs", body).await;
            assert_eq!(status, expected, "{}: {answer}", server.name);
        }
        for (run_id, expected) in [(&own, 200), (&persons, 403)] {
            let metadata = json!([{"key": "mlflow.sourceRun", "value": run_id}]);
            let trace =
                json!({"experiment_id": "0", "timestamp_ms": 1, "request_metadata": metadata});
            let (status, answer) = post_as(&server, "j1", "traces", trace).await;
            assert_eq!(status, expected, "{}: {answer}", server.name);
        }
    }
}

#[tokio::test]
async fn a_job_that_ends_ends_its_running_runs() {
    for server in both().await {
        let running = server.run(Some("j1")).await.run_id;
        let ended = server.run(Some("j1")).await.run_id;
        let other = server.run(Some("j2")).await.run_id;
        server
            .post(
                "runs/update",
                json!({"run_id": ended, "status": "FINISHED"}),
            )
            .await
            .ok();
        let count = server
            .tracking
            .end_runs_of_job("j1", RunStatus::Killed)
            .await
            .unwrap();
        assert_eq!(count, 1);
        for (run, status) in [
            (running, RunStatus::Killed),
            (ended, RunStatus::Finished),
            (other, RunStatus::Running),
        ] {
            assert_eq!(server.tracking.get_run(&run).await.unwrap().status, status);
        }
    }
}

#[tokio::test]
async fn counts_are_of_active_experiments_and_all_runs() {
    for server in both().await {
        server.run(None).await;
        server.tracking.ensure_experiment("a").await.unwrap();
        let again = server.tracking.ensure_experiment("a").await.unwrap();
        assert_eq!(again.experiment_id, "1");
        let counts = server.tracking.counts().await.unwrap();
        assert_eq!((counts.active_experiments, counts.runs), (2, 1));
    }
}
