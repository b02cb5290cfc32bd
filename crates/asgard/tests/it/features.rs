//! The feature store as a part of the server: commands, status, refusals as gRPC reads them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use serde_json::{Value, json};

use crate::server::{Server, asgard, code, stderr, stdout};
use crate::site::{Site, request};

const CUSTOMERS: &str = "customer_id,event_timestamp,total_orders\n1,2025-11-01T00:00:00,3\n";

const VIEW: &str = "\
name: customer_features
entities: [customer_id]
features: [{name: total_orders, dtype: int64}]
source: {table_name: customers, schema: gold}
ttl_days: 365
";

/// Runs `asgard features` against a server, and expects it to succeed.
fn features(home: &Path, server: &Server, args: &[&str]) {
    let mut command = asgard(home);
    command.arg("features").args(args);
    let output = command.env("ASGARD_URL", &server.url).output().unwrap();
    assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
}

/// Posts JSON on a new connection; nothing when the server is gone.
fn post(address: &str, path: &str, body: &Value) -> Option<String> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

#[test]
fn online_values_that_were_acknowledged_survive_kill_9() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("customers.csv"), CUSTOMERS).unwrap();
    std::fs::write(home.path().join("view.yaml"), VIEW).unwrap();
    let mut server = Server::start(home.path(), &[]);
    let import = ["import", "customers.csv", "--table", "gold.customers"];
    features(home.path(), &server, &import);
    features(home.path(), &server, &["apply", "view.yaml"]);
    let acknowledged = Arc::new(AtomicI64::new(0));
    for round in 1..=3 {
        let (address, last) = (server.address().to_owned(), acknowledged.clone());
        let pushing = std::thread::spawn(move || {
            loop {
                let orders = last.load(Ordering::Relaxed) + 1;
                let df = json!({
                    "customer_id": [1],
                    "event_timestamp": [1_800_000_000 + orders],
                    "total_orders": [orders],
                });
                let body = json!({"push_source_name": "customer_features", "df": df});
                if post(&address, "/feast/push", &body).is_none() {
                    return;
                }
                last.store(orders, Ordering::Relaxed);
            }
        });
        while acknowledged.load(Ordering::Relaxed) < round * 20 {
            assert!(!pushing.is_finished(), "a push was refused");
            std::thread::yield_now();
        }
        // Dropping kills it, in the middle of a push.
        drop(server);
        pushing.join().unwrap();
        server = Server::start(home.path(), &[]);
        let body = json!({
            "entities": {"customer_id": [1]},
            "features": ["customer_features:total_orders"],
        });
        let answer = post(server.address(), "/feast/get-online-features", &body).unwrap();
        let answer = answer.split_once("\r\n\r\n").unwrap().1;
        let answer: Value = serde_json::from_str(answer).unwrap();
        let kept = answer["results"][1]["values"][0].as_i64().unwrap();
        let last = acknowledged.load(Ordering::Relaxed);
        // The push that was not answered may be there or not.
        assert!(kept == last || kept == last + 1, "{kept} of {last}");
        acknowledged.store(kept, Ordering::Relaxed);
    }
}

#[test]
fn a_file_becomes_a_table_a_view_and_a_repository_by_commands() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &[]);
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("customers.csv", CUSTOMERS);
    write("view.yaml", VIEW);
    let features = |args: &[&str]| {
        asgard(home.path())
            .arg("features")
            .args(args)
            .env("ASGARD_URL", &server.url)
            .output()
            .unwrap()
    };
    let early = features(&["apply", "view.yaml"]);
    assert_eq!(code(&early), 6, "{}", stderr(&early));
    assert!(stderr(&early).contains("help: "), "{}", stderr(&early));
    let imported = features(&["import", "customers.csv", "--table", "gold.customers"]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    assert!(stderr(&imported).contains("✓ 1 rows made gold.customers"));
    let tables = features(&["tables", "-o", "name"]);
    assert_eq!(stdout(&tables), "customers\n");
    for _ in 0..2 {
        let applied = features(&["apply", "view.yaml"]);
        assert_eq!(code(&applied), 0, "{}", stderr(&applied));
    }
    assert_eq!(
        stdout(&features(&["list", "-o", "name"])),
        "customer_features\n"
    );
    write("view.yaml", &VIEW.replace("365", "7"));
    for (args, mark) in [
        (&["apply", "view.yaml", "--dry-run"][..], "· "),
        (&["apply", "view.yaml"], "✓ "),
    ] {
        let told = stderr(&features(args));
        assert!(told.starts_with(mark), "{told}");
        assert!(told.contains("ttl_seconds: "), "{told}");
        assert!(told.contains("→ 604800"), "{told}");
    }
    let again = stderr(&features(&["apply", "view.yaml"]));
    assert!(again.contains("is the same already"), "{again}");
    // All are checked before the first is touched.
    let two = format!("{VIEW}---\n{}", VIEW.replace("total_orders", "nothing"));
    write("two.yaml", &two);
    let refused = features(&["apply", "two.yaml"]);
    assert!(
        stderr(&refused).contains("has no column"),
        "{}",
        stderr(&refused)
    );
    let view = stdout(&features(&["get", "customer_features", "--json"]));
    assert!(view.contains("604800"), "{view}");
    assert_eq!(code(&features(&["materialize"])), 0);
    let loads = stdout(&features(&["loads", "customer_features", "-o", "csv"]));
    assert!(loads.contains(",full,"), "{loads}");
    let usage = features(&["usage", "customer_features", "--limit", "5"]);
    assert_eq!(code(&usage), 0, "{}", stderr(&usage));
    let view = stdout(&features(&["get", "customer_features", "--json"]));
    let view: Value = serde_json::from_str(&view).unwrap();
    assert_eq!(view["source"]["timestamp_field"], "event_timestamp");
    let status = server.get("/mlops/status");
    assert!(
        status.contains("\"feast_store_available\":true"),
        "{status}"
    );
    assert!(status.contains("\"feature_views\":1"), "{status}");
    assert_eq!(code(&features(&["repo", "repo"])), 0);
    let yaml = std::fs::read_to_string(home.path().join("repo/feature_store.yaml")).unwrap();
    assert!(yaml.contains(server.address()), "{yaml}");
    assert_eq!(code(&features(&["delete", "customer_features"])), 0);
    assert_eq!(code(&features(&["get", "customer_features"])), 6);
    assert_eq!(
        code(&features(&["import", "none.csv", "--table", "gold.x"])),
        6
    );
    assert_eq!(
        code(&features(&["import", "view.yaml", "--table", "gold.x"])),
        2
    );
}

#[tokio::test]
async fn a_grpc_call_without_a_key_is_refused_as_grpc_reads_it() {
    let site = Site::new().await;
    for (path, http, grpc) in [
        ("/feast.registry.RegistryServer/GetEntity", 401, "16"),
        ("/arrow.flight.protocol.FlightService/DoExchange", 401, "16"),
        ("/feast.registry.RegistryServer/Nothing", 501, "12"),
    ] {
        let sent = request("POST", path).body(Body::empty()).unwrap();
        let answer = site.send(sent).await;
        assert_eq!(answer.status, http, "{path}");
        assert_eq!(answer.headers["grpc-status"], grpc, "{path}");
        assert_eq!(answer.headers["content-type"], "application/grpc");
    }
}
