//! Scripts that run: what comes of them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use registry::Selector;
use serde_json::{Value, json};

use jobs::{Config, Submission};
use web::Identity;

use crate::server::{CLIENT, Server, body, both, config};

fn script(rest: &str) -> String {
    format!("{CLIENT}\n{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_makes_a_run_completes() {
    for server in both(&config()).await {
        let worker = server.work();
        let source = script(
            "run = start_run()\nprint('::progress 0.5::')\nprint('hello ✅', os.environ['N_ESTIMATORS'])\nprint('oops', file=sys.stderr)\nopen('scratch', 'w').write('x')\n",
        );
        let more = json!({"environment_vars": {"N_ESTIMATORS": "100"}, "tags": {"team": "ds"}});
        let id = server.upload(&source, more).await;
        let job = server.end(&id).await;
        assert_eq!(job["status"], "completed", "{}: {job:#}", server.name);
        assert_eq!(
            (&job["reason"], &job["error"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(job["progress"], 0.5);
        assert_eq!(job["model_version"], Value::Null);
        assert_eq!(job["warnings"][0]["code"], "no_model_artifact");
        assert!(job["resource_usage"]["peak_memory_bytes"].as_u64().unwrap() > 0);
        assert!(job["duration_seconds"].as_f64().unwrap() > 0.0);
        assert!(job["isolation"]["level"].is_string());
        let logs = job["logs"].as_str().unwrap();
        let run_id = job["run_id"].as_str().unwrap();
        for line in [
            "Installing requirements...",
            "✓ Dependencies installed successfully",
            "Executing training script...",
            "hello ✅ 100",
            "oops",
            &format!("Run ID: {run_id}"),
        ] {
            assert!(logs.lines().any(|l| l == line), "{line:?} is not in {logs}");
        }
        assert!(!logs.contains("::progress"), "{logs}");
        let tracking = server.registry.tracking();
        let run = tracking.get_run(run_id).await.unwrap();
        // The script left it open; the platform ends it and stamps it.
        assert_eq!(run.status, tracking::RunStatus::Finished);
        assert_eq!(run.job_id.as_deref(), Some(id.as_str()));
        worker.stop().await;
    }
}

/// Row 13 of the published mistakes (docs/security.md): a model's name was pasted into `bash -c`.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_is_read_by_a_shell() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let hostile = "$(touch made) `touch made` ; touch made && \"' | > made";
    let more = json!({
        "script_name": hostile,
        "experiment_name": hostile,
        "model_name": "$(touch made)`touch made`;touch made",
        "environment_vars": {"NAME": hostile},
        "tags": {"team": hostile},
    });
    let source = script(
        "start_run()\nprint(os.environ['MLFLOW_EXPERIMENT_NAME'][::-1])\nprint(os.environ['NAME'][::-1])\nprint(sorted(os.listdir('.')))\n",
    );
    let id = server.upload(&source, more).await;
    let job = server.end(&id).await;
    assert_eq!(job["status"], "completed", "{job:#}");
    let logs = job["logs"].as_str().unwrap();
    // Backwards, since the log covers what may be a secret.
    let backwards: String = hostile.chars().rev().collect();
    let printed = logs.lines().filter(|line| *line == backwards).count();
    assert_eq!(printed, 2, "{logs}");
    assert!(!logs.contains("'made'"), "{logs}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_was_wrong_and_what_to_do() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    for (source, reason, code, message) in [
        (
            "print('nothing')",
            "user",
            "no_mlflow_run",
            "No MLflow runs found. Your script MUST:",
        ),
        (
            "x = 1\n\ndef f():\n    return 1 / 0\n\nf()\n",
            "user",
            "script_failed",
            "ZeroDivisionError: division by zero (train.py, line 4)",
        ),
        (
            "x = (\n",
            "user",
            "syntax_error",
            "SyntaxError: '(' was never closed (train.py, line 1)",
        ),
        (
            "import pdfplumber",
            "user",
            "import_error",
            "No module named 'pdfplumber'",
        ),
        (
            "import sys; sys.exit(3)",
            "user",
            "script_exited",
            "sys.exit(3)",
        ),
        (
            "import os; os._exit(4)",
            "user",
            "script_failed",
            "exit code 4",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "user",
            "script_failed",
            "SIGSEGV",
        ),
        (
            "# /// script\n# dependencies = 3\n# ///\n",
            "user",
            "inline_metadata",
            "TOML",
        ),
    ] {
        let id = server.upload(source, json!({})).await;
        let job = server.end(&id).await;
        assert_eq!(job["status"], "failed", "{source}");
        assert_eq!(
            (&job["reason"], &job["error_info"]["code"]),
            (&json!(reason), &json!(code)),
            "{source}: {job:#}"
        );
        assert!(
            job["error"].as_str().unwrap().contains(message),
            "{source}: {}",
            job["error"]
        );
        assert!(job["error_info"]["help"].is_string(), "{source}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceback_shows_the_scripts_own_lines_only() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let source = "def f():\n    raise ValueError('bad')\n\nf()\n";
    let id = server.upload(source, json!({})).await;
    let job = server.end(&id).await;
    let logs = job["logs"].as_str().unwrap();
    assert!(logs.contains("train.py\", line 4, in <module>"), "{logs}");
    assert!(!logs.contains("runner.py"), "{logs}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_with_its_whole_tree() {
    for server in both(&config()).await {
        let worker = server.work();
        let source = script(
            "import subprocess, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nrun = start_run()\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nprint('sleeping', flush=True)\ntime.sleep(600)\n",
        );
        let id = server.upload(&source, json!({})).await;
        server
            .wait(&id, |job| {
                job["logs"].as_str().unwrap().contains("sleeping")
            })
            .await;
        let path = format!("/mlops/training/jobs/{id}/cancel");
        server.post(&path, json!({})).await.expect(202);
        let job = server.end(&id).await;
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("failed"), &json!("cancelled")),
            "{}",
            server.name
        );
        let tracking = server.registry.tracking();
        let run = &tracking.runs_of_job(&id).await.unwrap()[0];
        assert_eq!(run.status, tracking::RunStatus::Killed);
        // The end is the end.
        let again = server.post(&path, json!({})).await;
        assert_eq!(again.expect(202)["completed_at"], job["completed_at"]);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_limit_is_told_in_words() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let source = "x = []\nwhile True:\n    x.append(bytearray(10_000_000))\n";
    let more = json!({"resources": {"memory": "200MB"}});
    let id = server.upload(source, more).await;
    let job = server.end(&id).await;
    assert_eq!(job["reason"], "oom", "{job:#}");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("200 MB"), "{error}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_pickle_becomes_a_version() {
    for server in both(&config()).await {
        let worker = server.work();
        let source = script("run = start_run()\nput(run, 'model/model.pkl', b'pickle')\n");
        let id = server
            .upload(&source, json!({"tags": {"team": "ds"}}))
            .await;
        let job = server.end(&id).await;
        assert_eq!(job["status"], "completed", "{}: {job:#}", server.name);
        assert_eq!(job["model_version"], "1");
        let version = server
            .registry
            .resolve("model", &Selector::Latest)
            .await
            .unwrap();
        assert_eq!(version.job_id.as_deref(), Some(id.as_str()));
        assert_eq!(version.run_id.as_deref(), job["run_id"].as_str());
        assert_eq!(version.tags["asgard.wrapped"], "pickle");
        assert_eq!(version.tags["team"], "ds");
        assert_eq!(
            version.tags["asgard.environment"],
            job["environment"].as_str().unwrap()
        );
        let place = server.registry.location(&version).await.unwrap();
        let files = server.registry.tracking().artifacts();
        let model = files
            .read(&place.join("MLmodel").unwrap(), 10_000)
            .await
            .unwrap();
        assert!(String::from_utf8_lossy(&model).contains("asgard.pickle"));
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_folder_of_the_run_becomes_a_version_and_missing_ones_can_be_an_error() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let source = script("run = start_run()\nput(run, 'plots/MLmodel', b'flavors: {}')\n");
    let id = server.upload(&source, json!({})).await;
    let job = server.end(&id).await;
    assert_eq!(job["model_version"], "1", "{job:#}");

    let source = script("run = start_run()\nput(run, 'plot.png', b'x')\n");
    let id = server.upload(&source, json!({"require_model": true})).await;
    let job = server.end(&id).await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error_info"]["code"], "no_model_artifact");
    assert!(
        job["error_info"]["details"]
            .as_str()
            .unwrap()
            .contains("plot.png")
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_that_a_job_registered_is_told_of_when_it_has_ended() {
    for server in both(&config()).await {
        let mut announced = server.registry.announced();
        let worker = server.work();
        let source = script(
            "run = start_run()\nput(run, 'model/MLmodel', b'flavors: {}')\n\
             call('POST', '/api/2.0/mlflow/registered-models/create', {'name': 'other'})\n\
             made = {'name': 'other', 'source': f'runs:/{run}/model', 'run_id': run}\n\
             call('POST', '/api/2.0/mlflow/model-versions/create', made)\n",
        );
        let id = server.upload(&source, json!({})).await;
        let job = server.end(&id).await;
        assert_eq!(job["model_version"], "1", "{}: {job:#}", server.name);
        for model in ["model", "other"] {
            let told = tokio::time::timeout(Duration::from_secs(60), announced.recv()).await;
            let told = told.unwrap().unwrap();
            assert_eq!((told.name.as_str(), told.version), (model, 1));
        }
        assert!(announced.try_recv().is_err(), "each is told of once");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_sees_nothing_of_the_server_and_its_token_dies_with_it() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let source = script(
        "start_run()\ntoken = os.environ['MLFLOW_TRACKING_TOKEN']\nprint('plain', token)\nprint('backwards', token[::-1])\nprint(sorted(os.environ))\nimport asgard\nprint('id', asgard.current_job_id())\n",
    );
    let id = server.upload(&source, json!({})).await;
    let job = server.end(&id).await;
    let logs = job["logs"].as_str().unwrap();
    assert!(logs.contains("plain ***\n"), "{logs}");
    let backwards = logs
        .lines()
        .find_map(|line| line.strip_prefix("backwards "));
    let token: String = backwards.unwrap().chars().rev().collect();
    assert!(token.starts_with("asgj_"), "{token}");
    assert_eq!(server.jobs.authenticate(&token).await.unwrap(), None);
    assert!(logs.contains(&format!("id {id}")), "{logs}");
    assert!(!logs.contains("ASGARD_TEST_POSTGRES_URL"), "{logs}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_hardly_waits() {
    let config = Config {
        heartbeat_s: 30,
        lease_s: 120,
        ..config()
    };
    for server in both(&config).await {
        let worker = server.work();
        // The first one builds the environment.
        let id = server.upload("print(1)", json!({})).await;
        server.end(&id).await;
        let id = server.upload("print(1)", json!({})).await;
        let job = server.end(&id).await;
        let waited = job["queue_seconds"].as_f64().unwrap();
        // It is told of the job: a server that looks only now and then would look at its heartbeat.
        assert!(waited < 10.0, "{}: {waited} s", server.name);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_takes_too_long_is_stopped_and_told_how_to_ask_for_more() {
    for server in both(&config()).await {
        let worker = server.work();
        let source = script("start_run()\nprint('so far', flush=True)\ntime.sleep(600)\n");
        let Value::Object(body) = body(&source, json!({})) else {
            panic!("an object")
        };
        let mut submission = Submission::parse(body, server.jobs.config()).unwrap();
        // Shorter than an upload may ask for.
        submission.request.timeout_s = 10;
        let job = server
            .jobs
            .submit(&submission, &Identity::Local)
            .await
            .unwrap();
        let job = server.end(&job.job_id).await;
        assert_eq!(
            (&job["status"], &job["reason"]),
            (&json!("failed"), &json!("timeout")),
            "{}",
            server.name
        );
        assert!(
            job["error_info"]["help"]
                .as_str()
                .unwrap()
                .contains("timeout")
        );
        assert!(job["logs"].as_str().unwrap().contains("so far"));
        let tracking = server.registry.tracking();
        let run = tracking
            .get_run(job["run_id"].as_str().unwrap())
            .await
            .unwrap();
        assert_eq!(run.status, tracking::RunStatus::Failed);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_that_the_script_catches_is_a_warning_of_the_job() {
    for server in both(&config()).await {
        let worker = server.work();
        let source = script(
            "run = start_run()
put(run, 'notes', b'a file')
for path in ['notes/below.txt', 'kept.txt']:
    try:
        put(run, path, b'x')
    except Exception as error:
        print('caught', error)
",
        );
        let id = server.upload(&source, json!({})).await;
        let job = server.end(&id).await;
        assert_eq!(job["status"], "completed", "{}: {job:#}", server.name);
        let warnings = job["warnings"].as_array().unwrap();
        let [warning] = &warnings
            .iter()
            .filter(|w| w["code"] == "artifacts_not_stored")
            .collect::<Vec<_>>()[..]
        else {
            panic!("one such warning: {job:#}")
        };
        let details = warning["details"].as_str().unwrap();
        assert!(details.contains("notes/below.txt: "), "{details}");
        assert!(!details.contains("kept.txt"), "{details}");
        let logs = job["logs"].as_str().unwrap();
        assert!(
            logs.contains("⚠ 1 of the files that the script logged"),
            "{logs}"
        );
        worker.stop().await;
    }
}

/// Runs a script again until a waiting interpreter takes it. Interpreters are started in the
/// background after each job, so some jobs come too early.
async fn until_warm(server: &Server, source: &str) -> Value {
    for n in 0..120 {
        let more = json!({"requirements": ["joblib"], "environment_vars": {"N": n.to_string()}});
        let id = server.upload(source, more).await;
        let job = server.end(&id).await;
        let logs = job["logs"].as_str().unwrap();
        assert!(logs.contains(&format!("N {n}\n")), "{logs}");
        if job["warm_start"] == true {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("one of the jobs finds an interpreter ready");
}

/// Imports a small package, which is imported in advance for the next.
const IMPORTS: &str = "import joblib, os\nprint('N', os.environ.get('N'))\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_interpreter_takes_the_next_script_of_its_environment() {
    let mut config = config();
    config.warm_interpreters = 1;
    let [server, _] = both(&config).await;
    let worker = server.work();
    let warm = until_warm(&server, IMPORTS).await;
    assert_eq!(warm["error_info"]["code"], "no_mlflow_run");
    // What libraries read when they are loaded cannot be given to one that has loaded them.
    let more =
        json!({"requirements": ["joblib"], "environment_vars": {"OMP_NUM_THREADS": "1", "N": "x"}});
    let id = server.upload(IMPORTS, more).await;
    assert_eq!(server.end(&id).await["warm_start"], false);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_data_that_comes_later_is_seen_by_the_next_job() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut config = config();
    config.warm_interpreters = 1;
    config.data_dirs = vec![data.clone()];
    let [server, _] = both(&config).await;
    let worker = server.work();
    let source = format!("{IMPORTS}print(os.path.isdir({data:?}))\n");
    let seen = |job: &Value| job["logs"].as_str().unwrap().contains("True\n");
    assert!(!seen(&until_warm(&server, &source).await));
    // By now another waits, most likely; it does not show the folder.
    tokio::time::sleep(Duration::from_secs(2)).await;
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    let more = json!({"requirements": ["joblib"]});
    let id = server.upload(&source, more).await;
    assert!(seen(&server.end(&id).await));
    assert!(seen(&until_warm(&server, &source).await));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_not_shown_by_the_error_that_tells_it() {
    let [server, _] = both(&config()).await;
    let worker = server.work();
    let source = "import os\nraise ValueError('cannot connect to ' + os.environ['WAREHOUSE'])\n";
    let more = json!({"environment_vars": {"WAREHOUSE": "postgres://u:hunter22@h/d"}});
    let id = server.upload(source, more).await;
    let job = server.end(&id).await;
    assert!(!job.to_string().contains("hunter22"), "{job:#}");
    let told = job["error"].as_str().unwrap();
    assert!(told.contains("cannot connect to ***"), "{told}");
    worker.stop().await;
}
