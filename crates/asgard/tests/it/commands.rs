//! What the commands print, where, and what they exit with.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::server::{Server, answer, asgard, code, run, stderr, stdout, unused_address};

#[test]
fn exit_codes_tell_what_happened() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let at = |args: &[&str]| {
        let output = asgard(home.path())
            .args(args)
            .env("ASGARD_URL", &server.url)
            .output()
            .unwrap();
        (code(&output), stderr(&output))
    };
    assert_eq!(at(&["status"]).0, 0);
    assert_eq!(at(&["no-such-command"]).0, 2);
    assert_eq!(at(&["run"]).0, 2);
    assert_eq!(at(&["run", "missing.py"]).0, 6);
    let (exit, told) = at(&["jobs", "get", "nothing"]);
    assert_eq!(exit, 6);
    assert!(
        told.contains("help: ") && told.contains("request id: "),
        "{told}"
    );
    assert_eq!(at(&["status", "--url", "http://127.0.0.1:1"]).0, 9);
    assert_eq!(at(&["status", "--url", "ftp://x"]).0, 2);
    assert_eq!(
        at(&["keys", "create", "--name", "a", "--role", "viewer"]).0,
        0
    );
    assert_eq!(
        at(&["keys", "create", "--name", "a", "--role", "viewer"]).0,
        7
    );
    let denied = asgard(home.path())
        .args(["status", "--url", &server.url])
        .env("ASGARD_TOKEN", "asg_wrong")
        .output()
        .unwrap();
    assert_eq!(code(&denied), 4);
}

#[test]
fn data_goes_to_stdout_and_everything_else_to_stderr() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("train.py"), "print('✅')\n").unwrap();
    let plain = run(home.path(), &["encode", "train.py"]);
    assert_eq!(stdout(&plain), "cHJpbnQoJ+KchScpCg==\n");
    assert_eq!(stderr(&plain), "");

    let deploy = run(
        home.path(),
        &[
            "encode",
            "train.py",
            "--deploy",
            "--model-name",
            "churn",
            "--requirements",
            "pandas",
            "numpy",
            "--timeout",
            "600",
            "--replicas",
            "3",
        ],
    );
    let body: Value = serde_json::from_str(&stdout(&deploy)).unwrap();
    assert_eq!(body["model_name"], "churn");
    assert_eq!(body["requirements"], serde_json::json!(["pandas", "numpy"]));
    assert_eq!(
        (&body["timeout"], &body["replicas"]),
        (&600.into(), &3.into())
    );

    let key = run(
        home.path(),
        &["keys", "create", "--name", "k", "--role", "admin"],
    );
    assert_eq!(stdout(&key).lines().count(), 1);
    assert!(stderr(&key).contains("shown once"));
    let quiet = run(
        home.path(),
        &["keys", "create", "--name", "q", "--role", "admin", "-q"],
    );
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn keys_work_on_the_directory_and_through_the_server_that_holds_it() {
    let home = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        run(
            home.path(),
            &["keys", "create", "--name", name, "--role", "runner"],
        )
    };
    assert_eq!(code(&make("before")), 0);
    let toml = format!("[server]\nlisten = '{}'\n", unused_address());
    std::fs::write(home.path().join("asgard.toml"), toml).unwrap();
    let server = Server::start_with(asgard(home.path()).arg("up"));
    let through = make("through");
    assert_eq!(code(&through), 0, "{}", stderr(&through));
    let names = stdout(&run(home.path(), &["keys", "list", "-o", "name"]));
    assert_eq!(names, "through\nbefore\n");
    assert_eq!(code(&run(home.path(), &["keys", "revoke", "before"])), 0);
    drop(server);
    let listed = run(home.path(), &["keys", "list", "--json"]);
    let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
    let valid = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|k| k["valid"] == true);
    assert_eq!(valid.count(), 1);
}

#[test]
fn every_read_command_prints_documents_and_tables() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let at = |args: &[&str]| run(home.path(), &[args, &["--url", &server.url]].concat());
    let table = stdout(&at(&["jobs", "list"]));
    assert!(table.starts_with("job  status"), "{table}");
    assert!(!table.contains('\u{1b}'), "a pipe gets no colour");
    let json: Value = serde_json::from_str(&stdout(&at(&["jobs", "list", "--json"]))).unwrap();
    assert_eq!(json["jobs"], serde_json::json!([]));
    let csv = stdout(&at(&["jobs", "list", "-o", "csv"]));
    assert!(csv.starts_with("job,status,"), "{csv}");
    let yaml = stdout(&at(&["status", "-o", "yaml"]));
    let features = cfg!(feature = "feature-store");
    let line = format!("feast_store_available: {features}");
    assert!(yaml.contains(&line), "{yaml}");
    assert_eq!(stdout(&at(&["jobs", "list", "--jsonl"])), "");
}

#[test]
fn the_configuration_shows_where_each_value_comes_from() {
    let home = tempfile::tempdir().unwrap();
    let toml = "[database]\nurl = 'postgres://me:secret@db.example/asgard'\n";
    std::fs::write(home.path().join("asgard.toml"), toml).unwrap();
    let shown = asgard(home.path())
        .args(["config", "show", "--origin"])
        .env("ASGARD__ENVIRONMENTS__PYTHON", "3.12")
        .output()
        .unwrap();
    let shown = stdout(&shown);
    assert!(
        shown.contains("url = \"postgres://me:***@db.example/asgard\"  # asgard.toml")
            || shown.contains("asgard.toml"),
        "{shown}"
    );
    assert!(!shown.contains("me:secret"), "{shown}");
    assert!(
        shown.contains("python = \"3.12\"  # environment variable ASGARD__ENVIRONMENTS__PYTHON"),
        "{shown}"
    );
    assert!(
        shown.contains("listen = \"127.0.0.1:8000\"  # default"),
        "{shown}"
    );
}

#[test]
fn completion_and_version_need_no_server() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(home.path(), &["completion", shell]);
        assert_eq!(code(&script), 0);
        assert!(stdout(&script).contains("asgard"), "{shell}");
    }
    let version: Value =
        serde_json::from_str(&stdout(&run(home.path(), &["version", "--json"]))).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

/// Answers every connection with 204, as a receiver of webhooks does, while the test runs.
fn receiver() -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut part = [0; 4096];
            while !request.windows(9).any(|w| w == b"\"action\":") {
                let read = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
                if read == 0 {
                    break;
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
        }
    });
    url
}

#[test]
fn webhooks_are_made_tested_listed_and_deleted() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(
        asgard(home.path())
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("ASGARD__WEBHOOKS__ALLOW_HTTP", "true")
            .env("ASGARD__WEBHOOKS__ALLOW_PRIVATE_ADDRESSES", "true"),
    );
    let at = |args: &[&str]| {
        let command = &mut asgard(home.path());
        let output = command
            .arg("webhooks")
            .args(args)
            .env("ASGARD_URL", &server.url)
            .output();
        let output = output.unwrap();
        (code(&output), stdout(&output), stderr(&output))
    };
    let url = receiver();
    let made = at(&["create", "ci", &url, "--event", "job.failed", "-o", "json"]);
    assert_eq!(made.0, 0, "{}", made.2);
    let made: Value = serde_json::from_str(&made.1).unwrap();
    assert_eq!(made["events"], serde_json::json!(["job.failed"]));
    let tested = at(&["test", "ci", "-o", "json"]);
    assert_eq!(tested.0, 0, "{}", tested.2);
    let listed = at(&["list"]);
    assert!(
        listed.1.contains("job.failed") && listed.1.contains(&url),
        "{}",
        listed.1
    );
    assert_eq!(at(&["deliveries", "ci"]).0, 0);
    assert_eq!(at(&["create", "bad", &url, "--event", "no.such"]).0, 1);
    assert_eq!(at(&["create", "bad", &url]).0, 2);
    assert_eq!(at(&["test", "none"]).0, 6);
    let id = made["webhook_id"].as_str().unwrap();
    assert_eq!(at(&["delete", id]).0, 0);
    assert_eq!(at(&["delete", "ci"]).0, 6);
    let unreachable = [
        "create",
        "away",
        "http://127.0.0.1:9/",
        "--event",
        "job.failed",
    ];
    assert_eq!(at(&unreachable).0, 0);
    assert_eq!(at(&["test", "away"]).0, 5);
}

/// The address of a server that gives the same answer to everyone, and then hangs up.
fn stand_in(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head);
            if read.is_ok_and(|read| read > 0) {
                // Whoever asks may have left.
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    url
}

#[test]
fn a_server_that_is_no_asgard_is_told() {
    let home = tempfile::tempdir().unwrap();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>hello</html>",
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>no</html>",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"status\": \"ok\"}",
    ] {
        let asked = run(home.path(), &["status", "--url", &stand_in(answer)]);
        assert_ne!(code(&asked), 0, "{}", stdout(&asked));
        let told = stderr(&asked);
        assert!(told.contains("is that an asgard server?"), "{told}");
    }
}

#[test]
fn an_event_that_is_no_json_is_told() {
    let home = tempfile::tempdir().unwrap();
    let url = stand_in(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nevent: end\ndata: gone\n\n",
    );
    for follow in [
        ["jobs", "logs", "x", "--follow"],
        ["deployments", "logs", "x", "--follow"],
    ] {
        let mut args = follow.to_vec();
        args.extend(["--url", &url]);
        let followed = run(home.path(), &args);
        assert_eq!(code(&followed), 1, "{}", stdout(&followed));
        let told = stderr(&followed);
        assert!(told.contains("\"end\" that is not JSON"), "{told}");
    }
}

#[test]
fn what_cannot_be_meant_is_told_before_a_server_is_asked() {
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        std::fs::write(home.path().join(name), content).unwrap();
    };
    file("notebook.ipynb", b"{}");
    file("data.csv", b"a;b\n1;2\n");
    file("data.parquet", b"PAR1\x15\x04\x00PAR1");
    std::fs::create_dir(home.path().join("folder")).unwrap();
    for (args, word) in [
        (&["run", "notebook.ipynb"][..], "nbconvert"),
        (&["run", "data.csv"], "does not end in .py"),
        (&["run", "folder"], "is a folder"),
        (&["predict", "m", "-d", "data.parquet"], "Parquet"),
        (&["predict", "m", "-d", "data.csv"], "semicolons"),
        (&["predict", "m", "-d", "{\"a\": }"], "not JSON"),
        (&["models", "rm", "m"], "m/VERSION"),
        (
            &["models", "rm", "m/1", "--all-versions"],
            "name the model alone",
        ),
    ] {
        let refused = run(home.path(), args);
        assert_eq!(code(&refused), 2, "{args:?}: {}", stderr(&refused));
        let told = stderr(&refused);
        assert!(told.contains(word), "{args:?}: {told}");
    }
}

#[test]
fn versions_are_promoted_and_removed_by_commands() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let at = |args: &[&str], exit: i32| {
        let mut args = args.to_vec();
        args.extend(["--url", &server.url]);
        let done = run(home.path(), &args);
        assert_eq!(code(&done), exit, "{args:?}: {}", stderr(&done));
        (stdout(&done), stderr(&done))
    };
    let post = |path: &str, body: serde_json::Value| -> serde_json::Value {
        let body = body.to_string();
        let sent = format!(
            "POST /api/2.0/mlflow/{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            server.address(),
            body.len()
        );
        let answer = answer(server.connect(&sent));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    };
    post("registered-models/create", json!({"name": "churn"}));
    for _ in 0..2 {
        let run = post("runs/create", json!({"experiment_id": "0"}));
        let run = &run["run"]["info"];
        let source = format!("{}/model", run["artifact_uri"].as_str().unwrap());
        post(
            "model-versions/create",
            json!({"name": "churn", "source": source, "run_id": run["run_id"]}),
        );
    }
    let told = at(&["models", "alias", "set", "churn", "champion", "2"], 0).1;
    assert!(told.contains("churn@champion is version 2"), "{told}");
    at(
        &["models", "promote", "churn@champion", "--to", "Production"],
        0,
    );
    let versions = at(&["models", "versions", "churn", "-o", "json"], 0).0;
    let versions: serde_json::Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(
        (&versions[0]["version"], &versions[0]["stage"]),
        (&json!("2"), &json!("Production")),
        "{versions:#}"
    );
    assert_eq!(versions[0]["aliases"], json!(["champion"]));
    at(&["models", "alias", "rm", "churn", "champion"], 0);
    at(&["models", "promote", "churn/2", "--to", "Nowhere"], 1);
    at(&["models", "rm", "churn/1"], 0);
    // As MLflow has it, an alias that is not there is a wrong parameter.
    let told = at(&["models", "rm", "churn@champion"], 1).1;
    assert!(told.contains("champion not found"), "{told}");
    // The words of the command line, not of the server's routes.
    let told = at(&["jobs", "get", "nothing"], 6).1;
    assert!(told.contains("'asgard jobs list' lists the jobs"), "{told}");
    at(&["models", "rm", "churn", "--all-versions"], 0);
    at(&["models", "get", "churn"], 6);
}

#[test]
fn a_dry_run_of_an_import_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let import = [
        "import",
        "mlflow",
        "--from",
        "sqlite:///none.db",
        "--dry-run",
    ];
    let refused = run(home.path(), &import);
    assert_ne!(code(&refused), 0);
    assert!(!home.path().join(".local").exists(), "{}", stderr(&refused));
}
