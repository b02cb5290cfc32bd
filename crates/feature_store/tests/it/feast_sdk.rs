//! The remote mode of an unmodified Feast SDK, over a listener that speaks HTTP/2.
//!
//! Runs when `ASGARD_TEST_FEAST_PYTHON` names a Python that has `feast[grpcio]` 0.67.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::future::{IntoFuture as _, ready};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use axum::middleware::map_request;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::app::App;

/// What a script saw of a server that it was given, and the addresses that it called.
async fn drive(python: &OsStr, app: &App, script: &str) -> (Value, BTreeSet<String>) {
    let called: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let noted = Arc::clone(&called);
    let router = app
        .router
        .clone()
        .layer(map_request(move |request: Request| {
            let path = request.uri().path().to_owned();
            noted.lock().unwrap().insert(path);
            ready(request)
        }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Clear-text HTTP/2 without an upgrade, beside HTTP/1.1: `hyper-util` has it by tonic's need.
    let server = tokio::spawn(axum::serve(listener, router).into_future());
    let repository = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .arg(format!("{}/tests/it/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(format!("http://{address}"))
        .current_dir(repository.path())
        .env("FEAST_USAGE", "False")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    server.abort();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{complaints}");
    let seen = serde_json::from_str(printed.lines().last().unwrap_or_default()).unwrap();
    let called = called.lock().unwrap().clone();
    (seen, called)
}

#[tokio::test]
async fn the_sdk_defines_lists_and_reads_features() {
    let Some(python) = std::env::var_os("ASGARD_TEST_FEAST_PYTHON") else {
        eprintln!("skipped: ASGARD_TEST_FEAST_PYTHON names no Python with feast[grpcio]==0.67.0");
        return;
    };
    for app in App::both().await {
        app.customers().await;
        let (seen, mut called) = drive(&python, &app, "feast_sdk.py").await;
        assert_eq!(seen["version"], "0.67.0");
        definitions(&seen);
        reads(&seen);
        mistakes(&seen);
        let (kept, more) = drive(&python, &app, "feast_kept.py").await;
        crate::feast_kept::check(&kept);
        called.extend(more);
        let feast = |path: &&String| path.starts_with("/feast.") || path.starts_with("/arrow.");
        let untried: Vec<_> = app.paths.iter().filter(feast).collect();
        let untried: Vec<_> = untried.iter().filter(|p| !called.contains(**p)).collect();
        assert!(untried.is_empty(), "served and never called: {untried:?}");

        // What the SDK defined stands in REST too.
        let (status, body) = app.get("/feast/features/orders").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(
            (&body["join_keys"], &body["ttl_days"]),
            (&json!(["customer_id"]), &json!(2.0))
        );
        let (_, body) = app
            .post(
                "/feast/historical",
                json!({"features": ["orders:segment"],
                    "entities": {"customer_id": [2], "event_timestamp": ["2025-11-02"]}}),
            )
            .await;
        assert_eq!(body["data"]["segment"], json!(["new"]), "{body}");
    }
}

fn definitions(seen: &Value) {
    for (what, expected) in [
        ("entities", json!(["customer", "customer_id"])),
        ("views", json!(["customer_features", "inferred", "orders"])),
        ("tagged", json!(["orders"])),
        (
            "all_views",
            json!(["customer_features", "inferred", "orders"]),
        ),
        ("services", json!(["churn"])),
        ("projects", json!(["default"])),
        (
            "view",
            json!({
                "join_keys": ["customer_id"],
                "features": ["total_orders: Int64", "avg_order_value: Float64", "segment: String"],
                "ttl": 172_800.0,
                "path": "iceberg://gold/customer_aggregates",
                "has_times": true,
            }),
        ),
        (
            "inferred",
            json!([
                "total_orders: Int64",
                "avg_order_value: Float64",
                "segment: String"
            ]),
        ),
        (
            "kept",
            json!([
                ["doubled"],
                ["stream"],
                "doubled",
                "stream",
                ["doubled", "stream"],
                ["orders", "stream"]
            ]),
        ),
        (
            "materialized",
            json!([["2025-11-01T00:00:00+00:00", "2025-11-02T00:00:00+00:00"]]),
        ),
        (
            "feast_apply",
            json!([["buyer", "old"], ["a", "b"], ["buyers"], ["s"]]),
        ),
        ("feast_apply_less", json!([["buyer"], ["a"], [], []])),
        ("both_projects", json!(["default", "shop"])),
        ("project", json!("shop")),
        ("entity", json!("customer_id")),
        ("source", json!("iceberg://gold/customer_aggregates")),
        (
            "whole",
            json!(["customer_features", "inferred", "lost", "orders"]),
        ),
        ("none_of", json!([[], [], [], []])),
        ("rest_view", json!(["total_orders", "avg_order_value"])),
    ] {
        assert_eq!(seen[what], expected, "{what}");
    }
    let sources = seen["sources"].as_array().unwrap();
    assert!(sources.contains(&json!("aggregates")), "{sources:?}");
}

fn reads(seen: &Value) {
    let utc = |times: &[&str]| -> Vec<String> {
        times.iter().map(|time| format!("2025-{time}Z")).collect()
    };
    let times = utc(&[
        "11-02T00:00:00.000",
        "11-02T00:00:00.000",
        "11-01T23:59:59.999",
        "11-02T00:00:00.000",
        "11-02T00:00:00.000",
        "10-01T00:00:00.000",
        "11-04T00:00:00.000",
    ]);
    let keys = [2, 1, 1, 1, 9, 1, 1];
    let labels = ["a", "b", "c", "d", "e", "f", "g"];
    for calls in ["by_refs", "older_calls"] {
        let table = &seen[calls];
        assert_eq!(
            table["columns"],
            json!([
                "customer_id",
                "event_timestamp",
                "label",
                "total_orders",
                "avg_order_value"
            ]),
            "{calls}: {table}"
        );
        let orders = json!([1.0, 4.0, 3.0, 4.0, null, null, null]);
        let values = json!([99.0, 11.5, 10.5, 11.5, null, null, null]);
        let expected: Vec<Value> = (0..keys.len())
            .map(|i| json!([keys[i], times[i], labels[i], orders[i], values[i]]))
            .collect();
        assert_eq!(table["data"], json!(expected), "{calls}");
        assert!(
            table["types"][1].as_str().unwrap().contains("UTC"),
            "{calls}: {table}"
        );
    }
    assert_eq!(
        seen["full_names"],
        json!([
            "customer_id",
            "event_timestamp",
            "label",
            "orders__total_orders",
            "orders__avg_order_value"
        ])
    );
    let column = |table: &Value, index: usize| -> Vec<Value> {
        let rows = table["data"].as_array().unwrap();
        rows.iter().map(|row| row[index].clone()).collect()
    };
    // The ttl of this view is a year: its last row has a value.
    assert_eq!(
        json!(column(&seen["of_rest_view"], 2)),
        json!([1.0, 4.0, 3.0, 4.0, null, null, 4.0])
    );
    assert_eq!(
        json!(column(&seen["by_service"], 3)),
        json!(["new", "gold", "gold", "gold", null, null, null])
    );
    assert_eq!(
        seen["by_aliases"]["columns"],
        json!([
            "buyer_id",
            "seller_id",
            "event_timestamp",
            "buyer__total_orders",
            "seller__total_orders"
        ])
    );
    assert_eq!(
        json!([
            column(&seen["by_aliases"], 3),
            column(&seen["by_aliases"], 4)
        ]),
        json!([[4, 1], [1.0, null]])
    );
    assert_eq!(
        json!(column(&seen["of_stream"], 3)),
        json!([1.0, 4.0, 3.0, 4.0, null, null, 4.0])
    );
    assert_eq!(seen["many"], json!([200_000, 500_000]));
}

fn mistakes(seen: &Value) {
    for (what, class, message) in [
        (
            "no_view",
            "FeatureViewNotFoundException",
            "there are: customer_features, inferred, orders",
        ),
        (
            "no_view_to_read",
            "FeatureViewNotFoundException",
            "'nothing' not found",
        ),
        (
            "no_table",
            "DataSourceNotFoundException",
            "gold.none does not exist",
        ),
        (
            "feast_apply_lost",
            "DataSourceNotFoundException",
            "gold.none does not exist",
        ),
        ("no_key", "FeastError", "customer_id"),
        ("on_demand", "FeastError", "not computed here"),
        ("sql", "FeastError", "give a DataFrame"),
    ] {
        let error = &seen[what];
        let raised = error[0]
            .as_str()
            .unwrap_or_else(|| panic!("{what}: {error}"));
        assert_eq!(raised, class, "{what}: {error}");
        let text = error[1].as_str().unwrap();
        assert!(text.contains(message), "{what}: {error}");
    }
    assert_eq!(seen["read_twice"], "FlightInternalError");
    assert_eq!(seen["gone"], "FeatureViewNotFoundException");
}
