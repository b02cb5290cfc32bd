//! `asgard backup`, `asgard restore` and `asgard migrate`, by the real binary.

use serde_json::json;

use crate::server::{Server, answer, code, run, stderr, stdout};

/// Sends a request with a body and gives the whole answer.
fn send(server: &Server, method: &str, path: &str, body: &str) -> String {
    answer(server.connect(&format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        server.address(),
        body.len(),
    )))
}

#[test]
fn a_backup_of_a_running_server_comes_back_elsewhere() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = elsewhere.path().join("asgard.tar");
    let file = file.to_str().unwrap();
    let server = Server::start(home.path(), &[]);
    let named = json!({"name": "before"}).to_string();
    assert!(
        send(
            &server,
            "POST",
            "/api/2.0/mlflow/experiments/create",
            &named
        )
        .contains("200 OK")
    );
    let artifact = "/api/2.0/mlflow-artifacts/artifacts/1/a.txt";
    assert!(send(&server, "PUT", artifact, "hello").contains("200 OK"));
    let upload = json!({
        "script_name": "s", "script_content": "print(1)", "experiment_name": "before",
        "model_name": "m", "environment_vars": {"DB_PASSWORD": "correct-horse", "N": "4711"}
    });
    let job = send(
        &server,
        "POST",
        "/mlops/training/upload",
        &upload.to_string(),
    );
    let job = job.lines().find_map(|line| line.strip_prefix("location: "));
    let job = job.unwrap().trim().to_owned();

    // Somebody waits for the secrets under a name that could be guessed.
    let stolen = elsewhere.path().join("stolen");
    std::os::unix::fs::symlink(&stolen, format!("{file}.part")).unwrap();
    let made = run(home.path(), &["backup", file]);
    assert!(!stolen.exists());
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert!(stderr(&made).contains("backed up: "), "{}", stderr(&made));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
    let again = run(home.path(), &["backup", file]);
    assert_eq!(code(&again), 7, "{}", stderr(&again));
    let inside = home.path().join(".local/share/asgard/x.tar");
    let inside = run(home.path(), &["backup", inside.to_str().unwrap()]);
    assert!(
        stderr(&inside).contains("inside the data directory"),
        "{}",
        stderr(&inside)
    );

    let over = run(home.path(), &["restore", file]);
    assert_eq!(code(&over), 1);
    assert!(
        stderr(&over).contains("in use by another asgard process"),
        "{}",
        stderr(&over)
    );
    drop(server);
    for entry in std::fs::read_dir(home.path().join(".local/share/asgard")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes.windows(13).any(|part| part == b"correct-horse");
        assert!(!found, "a secret lies in {}", path.display());
    }
    let over = run(home.path(), &["restore", file]);
    assert!(
        stderr(&over).contains("there is a database already"),
        "{}",
        stderr(&over)
    );

    let restored = run(elsewhere.path(), &["restore", file]);
    assert_eq!(code(&restored), 0, "{}", stderr(&restored));
    let server = Server::start(elsewhere.path(), &[]);
    assert!(
        server
            .get("/api/2.0/mlflow/experiments/get-by-name?experiment_name=before")
            .contains("200 OK")
    );
    assert!(server.get(artifact).ends_with("hello"));
    // With the key that its variables are sealed with.
    assert!(server.get(&job).contains("\"N\":\"4711\""));
}

#[test]
fn a_database_that_is_not_in_this_directory_has_other_tools() {
    let home = tempfile::tempdir().unwrap();
    let mut command = crate::server::asgard(home.path());
    let refused = command
        .args(["backup", "x.tar"])
        .env("ASGARD__DATABASE__URL", "postgres://u:secret@h/db")
        .output()
        .unwrap();
    assert_eq!(code(&refused), 2);
    let told = stderr(&refused);
    assert!(
        told.contains("pg_dump") && !told.contains("secret"),
        "{told}"
    );
    let nothing = run(home.path(), &["backup", "x.tar"]);
    assert_eq!(code(&nothing), 6, "{}", stderr(&nothing));
}

#[test]
fn migrate_tells_what_it_did_and_what_is_to_be_done() {
    let home = tempfile::tempdir().unwrap();
    let none = run(home.path(), &["migrate"]);
    assert_eq!(code(&none), 6, "{}", stderr(&none));
    let data = home.path().join(".local/share/asgard");
    std::fs::create_dir_all(&data).unwrap();
    // An empty file is an empty database.
    std::fs::write(data.join("asgard.db"), "").unwrap();
    let check = run(home.path(), &["migrate", "--check"]);
    assert_eq!(code(&check), 8, "{}", stderr(&check));
    let done = run(home.path(), &["migrate", "-o", "csv"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert!(
        stdout(&done).contains("tracking,1,tracking"),
        "{}",
        stdout(&done)
    );
    let check = run(home.path(), &["migrate", "--check"]);
    assert_eq!(code(&check), 0, "{}", stderr(&check));
    assert!(stderr(&check).contains("up to date"), "{}", stderr(&check));
    let server = Server::start(home.path(), &[]);
    let check = run(home.path(), &["migrate", "--check"]);
    assert_eq!(code(&check), 0, "{}", stderr(&check));
    let held = run(home.path(), &["migrate"]);
    assert!(
        stderr(&held).contains("in use by another asgard process"),
        "{}",
        stderr(&held)
    );
    drop(server);
}

#[cfg(feature = "feature-store")]
#[test]
fn feature_tables_and_online_values_come_back_with_a_backup() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = elsewhere.path().join("asgard.tar");
    let file = file.to_str().unwrap();
    let server = Server::start(home.path(), &[]);
    let csv = home.path().join("t.csv");
    std::fs::write(&csv, "id,event_timestamp,x\n1,2025-11-01T00:00:00,7\n").unwrap();
    let url = format!("http://{}", server.address());
    let import = [
        "features",
        "import",
        csv.to_str().unwrap(),
        "--table",
        "gold.t",
        "--url",
        &url,
    ];
    let made = run(home.path(), &import);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let view = json!({
        "name": "v",
        "entities": ["id"],
        "features": [{"name": "x", "dtype": "int64"}],
        "source": {"schema": "gold", "table_name": "t"}
    });
    let created = send(&server, "POST", "/feast/features", &view.to_string());
    assert!(created.contains("201 Created"), "{created}");
    let loaded = send(&server, "POST", "/feast/materialize-incremental", "{}");
    assert!(loaded.contains("200 OK"), "{loaded}");
    let made = run(home.path(), &["backup", file]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert!(!stderr(&made).contains("left out"), "{}", stderr(&made));
    drop(server);

    let restored = run(elsewhere.path(), &["restore", file]);
    assert_eq!(code(&restored), 0, "{}", stderr(&restored));
    let server = Server::start(elsewhere.path(), &[]);
    let question = json!({"features": ["v:x"], "entities": {"id": [1]}}).to_string();
    let online = send(&server, "POST", "/feast/get-online-features", &question);
    assert!(online.contains("\"values\":[7]"), "{online}");
    assert!(server.get("/feast/tables").contains("\"total_count\":1"));
}
