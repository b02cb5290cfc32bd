//! What the commands print, where, and what they exit with.

use serde_json::Value;

use crate::server::{Server, asgard, code, run, stderr, stdout, unused_address};

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
