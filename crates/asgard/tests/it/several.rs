//! Two servers on one PostgreSQL and one bucket behave as one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Server, asgard};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(240);

struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn of(server: &Server) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: server.url.clone(),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let sent = self.http.post(format!("{}{path}", self.url)).json(&body);
        self.json(path, sent).await
    }

    async fn get(&self, path: &str) -> Value {
        self.json(path, self.http.get(format!("{}{path}", self.url)))
            .await
    }

    async fn json(&self, path: &str, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    async fn mlflow(&self, path: &str, body: Value) -> Value {
        self.post(&format!("/api/2.0/mlflow/{path}"), body).await
    }

    /// The same; nothing when the server is gone.
    async fn try_mlflow(&self, path: &str, body: Value) -> Option<Value> {
        let sent = self
            .http
            .post(format!("{}/api/2.0/mlflow/{path}", self.url));
        let answer = sent.json(&body).send().await.ok()?;
        let status = answer.status();
        let text = answer.text().await.ok()?;
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).ok()
    }

    /// What inference says of a model that is none: it names the version that was meant.
    async fn refusal(&self, model_version: &str) -> String {
        let body = json!({"model_name": "m", "model_version": model_version, "inputs": {"a": [1]}});
        let sent = self
            .http
            .post(format!("{}/mlops/inference", self.url))
            .json(&body);
        sent.send().await.unwrap().text().await.unwrap()
    }
}

fn start(home: &Path, database: &str, bucket: &bucket::Server) -> Server {
    let settings = json!({
        "database.url": database,
        "artifacts.url": format!("s3://{}/asgard", bucket::BUCKET),
        "artifacts.endpoint": bucket.endpoint(),
    });
    let mut text = String::new();
    for (key, value) in settings.as_object().unwrap() {
        text.push_str(&format!("{key} = {value}\n"));
    }
    // No packages from an index, and jobs that change hands quickly.
    text.push_str("[jobs]\ndefault_requirements = []\nalways_requirements = []\nparallel = 1\n");
    std::fs::write(home.join("asgard.toml"), text).unwrap();
    let mut command = asgard(home);
    command
        .args(["up", "--listen", "127.0.0.1:0"])
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("AWS_ACCESS_KEY_ID", bucket::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", bucket::SECRET_KEY);
    Server::start_with(&mut command)
}

#[tokio::test]
async fn two_servers_on_one_database_and_bucket_behave_as_one() {
    let db = db::testing::postgres(&[]).await;
    let bucket = bucket::Server::start().unwrap();
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let database = db.url.as_deref().unwrap();
    let servers = homes
        .each_ref()
        .map(|home| start(home.path(), database, &bucket));
    let [one, other] = servers.each_ref().map(Client::of);
    runs_and_files_are_seen_at_once(&one, &other).await;
    aliases_move_on_both(&one, &other).await;
    keys_end_on_both(homes[0].path(), &one, &other).await;
    jobs_are_run_once_and_read_on_both(&one, &other).await;
}

async fn runs_and_files_are_seen_at_once(one: &Client, other: &Client) {
    for step in 0..20 {
        let (writer, reader) = if step % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let run = writer
            .mlflow("runs/create", json!({"experiment_id": "0"}))
            .await;
        let run_id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        let metric = json!({"run_id": run_id, "key": "m", "value": step, "timestamp": 1});
        writer.mlflow("runs/log-metric", metric).await;
        let file = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/f");
        let put = writer
            .http
            .put(format!("{}{file}", writer.url))
            .body(format!("{step}"));
        assert_eq!(put.send().await.unwrap().status(), 200);
        let seen = reader
            .get(&format!("/api/2.0/mlflow/runs/get?run_id={run_id}"))
            .await;
        assert_eq!(seen["run"]["data"]["metrics"][0]["value"], f64::from(step));
        assert_eq!(reader.get(&file).await, json!(step));
    }
}

async fn aliases_move_on_both(one: &Client, other: &Client) {
    let run = one
        .mlflow("runs/create", json!({"experiment_id": "0"}))
        .await;
    let run_id = run["run"]["info"]["run_id"].as_str().unwrap();
    one.mlflow("registered-models/create", json!({"name": "m"}))
        .await;
    for _ in 0..2 {
        let version =
            json!({"name": "m", "source": format!("runs:/{run_id}/model"), "run_id": run_id});
        one.mlflow("model-versions/create", version).await;
    }
    for round in 0..6 {
        let (writer, reader) = if round % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        let version = format!("{}", round % 2 + 1);
        let alias = json!({"name": "m", "alias": "champion", "version": version});
        writer.mlflow("registered-models/alias", alias).await;
        let since = Instant::now();
        let meant = format!("version {version}");
        loop {
            let told = reader.refusal("@champion").await;
            if told.contains(&meant) {
                break;
            }
            assert!(since.elapsed() < LONG, "{meant}: {told}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn keys_end_on_both(home: &Path, one: &Client, other: &Client) {
    // PostgreSQL takes a third process beside the two servers: 'asgard keys' is one.
    let made = asgard(home)
        .args(["keys", "create", "--name", "ci", "--role", "viewer", "-q"])
        .output()
        .unwrap();
    let key = crate::server::stdout(&made).trim().to_owned();
    let who = async |client: &Client| {
        let asked = client
            .http
            .get(format!("{}/mlops/keys", client.url))
            .bearer_auth(&key);
        asked.send().await.unwrap().status().as_u16()
    };
    // A viewer is known, and may not list keys; an unknown key is nobody's.
    assert_eq!((who(one).await, who(other).await), (403, 403));
    let ended = one
        .http
        .delete(format!("{}/mlops/keys/ci", one.url))
        .send()
        .await
        .unwrap();
    assert_eq!(ended.status(), 200);
    assert_eq!((who(one).await, who(other).await), (401, 401));
}

async fn jobs_are_run_once_and_read_on_both(one: &Client, other: &Client) {
    let script = "import os, urllib.request\nprint('hello from', os.getpid(), flush=True)\n";
    let mut jobs = Vec::new();
    for number in 0..4 {
        let client = if number % 2 == 0 { one } else { other };
        let body = json!({
            "script_name": "train", "script_content": script, "experiment_name": "e", "model_name": "j",
        });
        let job = client.post("/mlops/training/upload", body).await;
        jobs.push(job["job_id"].as_str().unwrap().to_owned());
    }
    for job_id in &jobs {
        let path = format!("/mlops/training/jobs/{job_id}");
        let since = Instant::now();
        let ended = loop {
            let job = one.get(&path).await;
            if ["completed", "failed"].contains(&job["status"].as_str().unwrap()) {
                break job;
            }
            assert!(since.elapsed() < LONG, "{job}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let log = ended["logs"].as_str().unwrap();
        assert_eq!(log.matches("hello from").count(), 1, "{log}");
        let seen = other.get(&path).await;
        assert_eq!(
            (&seen["status"], &seen["logs"]),
            (&ended["status"], &ended["logs"])
        );
    }
}

/// Starts runs and logs points to `run` until it is told to stop or the server is gone; gives the
/// steps and the runs that were acknowledged.
async fn write(
    client: Client,
    run: String,
    first_step: i64,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> (Vec<i64>, Vec<String>) {
    let (mut steps, mut runs) = (Vec::new(), Vec::new());
    for step in first_step.. {
        let point = json!({"run_id": run, "key": "m", "value": 1, "timestamp": step, "step": step});
        if client.try_mlflow("runs/log-metric", point).await.is_none() {
            break;
        }
        steps.push(step);
        let new = json!({"experiment_id": "0", "start_time": step});
        let Some(made) = client.try_mlflow("runs/create", new).await else {
            break;
        };
        runs.push(made["run"]["info"]["run_id"].as_str().unwrap().to_owned());
        acknowledged.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    (steps, runs)
}

#[tokio::test]
async fn what_one_of_two_servers_acknowledged_outlives_its_kill() {
    let db = db::testing::postgres(&[]).await;
    let bucket = bucket::Server::start().unwrap();
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let database = db.url.as_deref().unwrap();
    let [killed, other] = homes
        .each_ref()
        .map(|home| start(home.path(), database, &bucket));
    let new = json!({"experiment_id": "0"});
    let made = Client::of(&other).mlflow("runs/create", new).await;
    let run = made["run"]["info"]["run_id"].as_str().unwrap().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let counts = [Arc::default(), Arc::default()];
    let writers: Vec<_> = (0..12)
        .map(|writer| {
            let server = [&killed, &other][writer % 2];
            let first_step = writer as i64 * 1_000_000;
            let count = Arc::clone(&counts[writer % 2]);
            let writing = write(
                Client::of(server),
                run.clone(),
                first_step,
                count,
                stop.clone(),
            );
            tokio::spawn(writing)
        })
        .collect();
    let since = Instant::now();
    while counts
        .iter()
        .any(|count: &Arc<AtomicUsize>| count.load(Ordering::Relaxed) < 60)
    {
        assert!(since.elapsed() < LONG, "the servers do not write");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Dropping kills it, in the middle of its writes.
    drop(killed);
    stop.store(true, Ordering::Relaxed);
    let other = Client::of(&other);
    let (mut steps, mut runs) = (Vec::new(), Vec::new());
    for writer in writers {
        let (more_steps, more_runs) = writer.await.unwrap();
        steps.extend(more_steps);
        runs.extend(more_runs);
    }
    let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=m");
    let kept = other.get(&path).await["metrics"].clone();
    let kept = kept.as_array().unwrap().iter();
    let kept: HashSet<i64> = kept.map(|point| point["step"].as_i64().unwrap()).collect();
    assert!(
        steps.iter().all(|step| kept.contains(step)),
        "points are lost"
    );
    let all = json!({"experiment_ids": ["0"], "max_results": 50_000});
    let found = other.mlflow("runs/search", all).await;
    let found = found["runs"].as_array().unwrap().iter();
    let found: HashSet<&str> = found
        .map(|run| run["info"]["run_id"].as_str().unwrap())
        .collect();
    assert!(
        runs.iter().all(|run| found.contains(run.as_str())),
        "runs are lost"
    );
}
