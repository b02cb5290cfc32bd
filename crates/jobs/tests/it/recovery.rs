//! Servers that stop or die under their jobs.

use jobs::Config;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::server::{CLIENT, Server, both, config};

const SLOW: &str = "start_run()\nprint('begun', flush=True)\ntime.sleep(600)\n";

/// A dead server's jobs are taken over after six seconds.
fn soon_lost() -> Config {
    Config {
        lease_s: 6,
        ..config()
    }
}

async fn begun(server: &Server, id: &str, times: usize) {
    server
        .wait(id, |job| {
            job["logs"].as_str().unwrap().matches("begun\n").count() >= times
        })
        .await;
}

/// Works on the jobs in a runtime of its own, with connections of its own, that is torn down with
/// all its tasks in the middle, as a kill would.
fn killed_in_the_middle(server: &Server, id: &str, times: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    tokio::task::block_in_place(|| {
        let other = runtime.block_on(server.elsewhere());
        runtime.spawn(other.jobs.work(CancellationToken::new()));
        tokio::runtime::Handle::current().block_on(begun(server, id, times));
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_server_dies_runs_once_more_and_then_counts_as_lost() {
    for server in both(&soon_lost()).await {
        let id = server.upload(&format!("{CLIENT}\n{SLOW}"), json!({})).await;
        killed_in_the_middle(&server, &id, 1);
        killed_in_the_middle(&server, &id, 2);
        let stop = CancellationToken::new();
        let third = tokio::spawn(server.restarted().work(stop.clone()));
        let job = server.end(&id).await;
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("failed"), &json!("lost")),
            "{}: {job:#}",
            server.name
        );
        assert_eq!(job["attempt"], 2);
        for run in server.registry.tracking().runs_of_job(&id).await.unwrap() {
            assert_eq!(run.status, tracking::RunStatus::Killed);
        }
        stop.cancel();
        third.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_gives_its_jobs_back() {
    for server in both(&config()).await {
        let worker = server.work();
        let id = server.upload(&format!("{CLIENT}\n{SLOW}"), json!({})).await;
        begun(&server, &id, 1).await;
        worker.stop().await;
        let job = server.job(&id).await;
        assert_eq!(job["status"], "queued", "{}", server.name);
        assert_eq!(server.jobs.queue_depth().await.unwrap(), 1);

        let worker = server.work();
        begun(&server, &id, 2).await;
        let job = server.job(&id).await;
        assert_eq!(job["attempt"], 1, "the stop was not the job's fault");
        let path = format!("/mlops/training/jobs/{id}/cancel");
        server.post(&path, json!({})).await.expect(202);
        assert_eq!(server.end(&id).await["reason"], "cancelled");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_never_run_the_same_job() {
    let [_, server] = both(&config()).await;
    let stop = CancellationToken::new();
    let other = tokio::spawn(server.restarted().work(stop.clone()));
    let worker = server.work();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(
            server
                .upload(&format!("print('only once {n}')"), json!({}))
                .await,
        );
    }
    for (n, id) in ids.iter().enumerate() {
        let job = server.end(id).await;
        let logs = job["logs"].as_str().unwrap();
        assert_eq!(logs.matches(&format!("only once {n}")).count(), 1, "{logs}");
        assert_eq!(job["attempt"], 1);
    }
    stop.cancel();
    other.await.unwrap();
    worker.stop().await;
}

const MODEL: &str = r#"
run = start_run()
made = call("POST", "/api/2.0/mlflow/logged-models", {"experiment_id": "0", "name": "net", "source_run_id": run})
model = made["model"]["info"]["model_id"]
call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/models/{model}/artifacts/MLmodel", b"flavors: {}")
"#;
const FINALIZE: &str =
    r#"call("PATCH", f"/api/2.0/mlflow/logged-models/{model}", {"status": "LOGGED_MODEL_READY"})"#;

/// A script that logs a whole model at its first attempt, is killed, and logs none at the second.
fn only_at_first() -> String {
    format!(
        "{CLIENT}
runs = call('POST', '/api/2.0/mlflow/runs/search', {{'experiment_ids': ['0']}}).get('runs', [])
if not runs:
{}
    print('begun', flush=True)
    time.sleep(600)
start_run()
print('second', flush=True)
",
        format!("{MODEL}{FINALIZE}").replace('\n', "\n    ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_attempt_left_is_not_the_result_of_the_next() {
    for server in both(&soon_lost()).await {
        let id = server.upload(&only_at_first(), json!({})).await;
        killed_in_the_middle(&server, &id, 1);
        let tracking = server.registry.tracking();
        assert_eq!(tracking.logged_models_of_job(&id).await.unwrap().len(), 1);
        let worker = server.work();
        let job = server.end(&id).await;
        assert_eq!(job["status"], "completed", "{}: {job:#}", server.name);
        assert!(job["logs"].as_str().unwrap().contains("second"));
        assert_eq!(job["model_version"], json!(null), "{job:#}");
        assert_eq!(job["run_ids"].as_array().unwrap().len(), 1);
        assert_eq!(job["warnings"][0]["code"], "no_model_artifact");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logged_model_that_is_not_ready_is_not_registered() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let id = server
        .upload(&format!("{CLIENT}\n{MODEL}"), json!({}))
        .await;
    let job = server.end(&id).await;
    assert_eq!(job["model_version"], json!(null), "{job:#}");
    assert_eq!(job["warnings"][0]["code"], "model_not_stored");
    let id = server
        .upload(&format!("{CLIENT}\n{MODEL}{FINALIZE}"), json!({}))
        .await;
    assert_eq!(server.end(&id).await["model_version"], "1");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_the_job_and_its_runs() {
    for server in both(&config()).await.map(Server::with_a_door_that_panics) {
        let id = server.upload("print(1)", json!({})).await;
        let new = json!({"experiment_id": "0"});
        let caller = web::Identity::Job { job_id: id.clone() };
        let path = "/api/2.0/mlflow/runs/create";
        let made = server
            .send(caller, axum::http::Method::POST, path, &[], Some(new))
            .await;
        made.expect(200);
        let worker = server.work();
        let job = server.end(&id).await;
        assert_eq!(job["reason"], "infra", "{}: {job:#}", server.name);
        let tracking = server.registry.tracking();
        let run = tracking.runs_of_job(&id).await.unwrap().remove(0);
        assert_eq!(run.status, tracking::RunStatus::Failed);
        worker.stop().await;
    }
}
