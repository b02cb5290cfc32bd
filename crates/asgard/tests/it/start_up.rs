//! What `asgard up` refuses, says, and does when it is told to stop.

use std::io::{Read as _, Write as _};

use crate::server::{Server, answer, asgard, code, run, stderr, stdout, unused_address};

#[test]
fn a_server_needs_no_configuration_and_says_where_it_is() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    assert!(
        server
            .greeting
            .contains(&format!("MLFLOW_TRACKING_URI={}", server.url))
    );
    assert!(server.greeting.contains("asgard run train.py"));
    // Only what is there is named.
    assert!(!server.greeting.contains("/mlflow/"), "{}", server.greeting);
    assert!(server.greeting.contains("asgard mlflow-ui install"));
    assert!(home.path().join(".local/share/asgard/asgard.db").exists());
    assert!(server.get("/health").ends_with("OK"));
}

#[test]
fn an_unknown_key_stops_the_start_and_is_named_with_its_origin() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("asgard.toml"), "[jobs]\nparalel = 3\n").unwrap();
    let refused = run(home.path(), &["up"]);
    assert_eq!(code(&refused), 2);
    let told = stderr(&refused);
    assert!(
        told.contains("\"jobs.paralel\"") && told.contains("asgard.toml"),
        "{told}"
    );
    assert!(told.contains("did you mean \"parallel\"?"), "{told}");

    std::fs::remove_file(home.path().join("asgard.toml")).unwrap();
    let refused = asgard(home.path())
        .arg("up")
        .env("ASGARD__SERVER__LISTENN", "x")
        .output()
        .unwrap();
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("ASGARD__SERVER__LISTENN"));
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let _first = Server::start(home.path(), &[]);
    let refused = run(home.path(), &["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(code(&refused), 1);
    let told = stderr(&refused);
    assert!(
        told.contains("in use by another asgard process (pid "),
        "{told}"
    );
}

#[test]
fn a_public_address_is_refused_without_a_key_and_closed_with_one() {
    let home = tempfile::tempdir().unwrap();
    let public = ["up", "--listen", "0.0.0.0:0"];
    let refused = run(home.path(), &public);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("asgard keys create --name me --role admin"));

    let made = run(
        home.path(),
        &["keys", "create", "--name", "me", "--role", "admin"],
    );
    let key = stdout(&made).trim().to_owned();
    assert!(key.starts_with("asg_"), "{}", stderr(&made));
    let server = Server::start_with(asgard(home.path()).args(public));
    assert!(server.get("/mlops/status").starts_with("HTTP/1.1 401"));
    assert!(server.get("/health").starts_with("HTTP/1.1 200"));
    let status = asgard(home.path())
        .args(["status", "--url", &server.url])
        .env("ASGARD_TOKEN", &key)
        .output()
        .unwrap();
    assert_eq!(code(&status), 0, "{}", stderr(&status));
    // Who tries the door is counted (row 38 of docs/security.md).
    let metrics = answer(server.connect(&format!(
        "GET /metrics HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n",
        server.address()
    )));
    let refused = metrics
        .lines()
        .find(|line| line.contains("route=\"/mlops/status\"") && line.contains("status=\"401\""));
    assert!(refused.is_some(), "{metrics}");
}

/// The ports at which a process listens: those of its sockets in the kernel's list.
fn listening(pid: u32) -> Vec<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
        for line in table.unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Local address, state (0A: listening) and inode.
            if fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]) {
                let port = fields[1].rsplit(':').next().unwrap();
                ports.push(u16::from_str_radix(port, 16).unwrap());
            }
        }
    }
    ports
}

/// Row 25 of docs/security.md: a second server of the same process asked nobody for a key.
#[test]
fn every_port_of_a_server_with_keys_asks_for_one() {
    let home = tempfile::tempdir().unwrap();
    let made = run(
        home.path(),
        &["keys", "create", "--name", "me", "--role", "admin"],
    );
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let public = [
        "up",
        "--listen",
        "0.0.0.0:0",
        "--mlflow-listen",
        "0.0.0.0:0",
    ];
    let mut server = Server::start_with(asgard(home.path()).args(public));
    let ports = listening(server.pid());
    assert!(
        ports.len() >= 3,
        "its own, MLflow's and that of jobs: {ports:?}"
    );
    for port in ports {
        server.url = format!("http://127.0.0.1:{port}");
        for path in [
            "/mlops/status",
            "/api/2.0/mlflow/experiments/get?experiment_id=0",
        ] {
            let answer = server.get(path);
            assert!(
                answer.starts_with("HTTP/1.1 401"),
                "{port} {path}: {answer}"
            );
        }
    }
}

#[test]
fn a_public_address_is_open_only_by_the_flag_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(asgard(home.path()).args([
        "up",
        "--listen",
        "0.0.0.0:0",
        "--insecure-allow-anonymous",
    ]));
    assert!(server.greeting.contains("EVERYONE"));
    assert!(server.get("/mlops/status").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_second_listener_answers_the_same_routes() {
    let home = tempfile::tempdir().unwrap();
    let second = unused_address();
    let mut server = Server::start(home.path(), &["--mlflow-listen", &second]);
    assert!(server.get("/version").starts_with("HTTP/1.1 200"));
    server.url = format!("http://{second}");
    let found = server.get("/api/2.0/mlflow/no-such-endpoint");
    assert!(found.contains("ENDPOINT_NOT_FOUND"), "{found}");
}

#[test]
fn a_request_under_way_is_answered_before_the_server_stops() {
    let home = tempfile::tempdir().unwrap();
    // Long enough for a busy machine.
    let mut server = Server::start_with(
        asgard(home.path())
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("ASGARD__SERVER__STOP_TIMEOUT_MS", "60000"),
    );
    let body = r#"{"name": "late", "role": "viewer"}"#;
    let (first, rest) = body.split_at(10);
    let mut stream = server.connect(&format!(
        "POST /mlops/keys HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    ));
    let mut head = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut head).unwrap();
    assert!(head.starts_with(b"HTTP/1.1 100"), "it is being handled");
    stream.write_all(first.as_bytes()).unwrap();
    server.terminate();
    std::thread::sleep(std::time::Duration::from_millis(200));
    stream.write_all(rest.as_bytes()).unwrap();
    assert!(answer(stream).starts_with("HTTP/1.1 201"));
    assert!(server.ended().success());

    // Everything was let go: the same directory opens again, with the key in it.
    let keys = run(home.path(), &["keys", "list", "-o", "name"]);
    assert_eq!(stdout(&keys), "late\n");
}

#[test]
fn a_taken_port_is_told_with_another() {
    let home = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = run(home.path(), &["up", "--listen", &address]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("choose another port"));
}

#[test]
fn doctor_tries_the_bucket_and_names_the_fix() {
    let home = tempfile::tempdir().unwrap();
    let bucket = bucket::Server::start().unwrap();
    let examine = |endpoint: &str, secret: &str| {
        let mut command = asgard(home.path());
        command
            .args(["doctor", "--url", "http://127.0.0.1:1"])
            .env("ASGARD__ARTIFACTS__URL", "s3://artifacts/x")
            .env("ASGARD__ARTIFACTS__ENDPOINT", endpoint)
            .env("AWS_ACCESS_KEY_ID", bucket::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret);
        stdout(&command.output().unwrap())
    };
    let well = examine(&bucket.endpoint(), bucket::SECRET_KEY);
    assert!(
        well.contains("\u{2713} store artifacts: can be written: s3://artifacts/x"),
        "{well}"
    );
    let wrong = examine(&bucket.endpoint(), "wrong");
    assert!(wrong.contains("help: the credentials are wrong"), "{wrong}");
    let away = examine("http://127.0.0.1:1", bucket::SECRET_KEY);
    assert!(
        away.contains("help: see that artifacts.endpoint is right"),
        "{away}"
    );
}

#[test]
fn a_store_that_cannot_be_opened_stops_the_start_and_names_the_setting() {
    let home = tempfile::tempdir().unwrap();
    for (url, profile, told) in [
        (
            "gs://bucket/x",
            "",
            "neither a folder nor s3://BUCKET/PREFIX",
        ),
        ("s3://", "", "write it as s3://BUCKET"),
        ("s3://bucket", "ml", "export-credentials --profile ml"),
    ] {
        let mut command = asgard(home.path());
        command
            .args(["up", "--listen", "127.0.0.1:0"])
            .env("ASGARD__ARTIFACTS__URL", url)
            .env("AWS_PROFILE", profile);
        let refused = command.output().unwrap();
        assert_eq!(code(&refused), 1, "{url}");
        let error = stderr(&refused);
        assert!(
            error.contains("artifacts.url") && error.contains(told),
            "{error}"
        );
    }
}
