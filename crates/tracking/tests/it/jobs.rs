//! What a job makes is stamped, and a job writes nothing else.

use axum::http::Method;
use serde_json::{Value, json};
use tracking::RunStatus;

use crate::server::{Server, both, job};

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
        let id = made["experiment_id"].clone();
        let tag = json!({"experiment_id": "0", "key": "k", "value": "v"});
        assert_eq!(
            post_as(&server, "j1", "experiments/set-experiment-tag", tag)
                .await
                .0,
            200
        );
        let rename = |id: &Value| json!({"experiment_id": id, "new_name": "b"});
        assert_eq!(
            post_as(&server, "j1", "experiments/update", rename(&json!("0")))
                .await
                .0,
            403
        );
        assert_eq!(
            post_as(&server, "j1", "experiments/update", rename(&id))
                .await
                .0,
            200
        );
        let one = json!({"experiment_id": id});
        assert_eq!(
            post_as(&server, "j1", "experiments/delete", one).await.0,
            403
        );
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
