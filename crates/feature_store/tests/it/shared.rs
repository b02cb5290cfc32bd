//! An online store that several servers share.

use std::time::Duration;

use feature_store::Config;
use serde_json::{Value, json};

use crate::app::App;
use crate::online::{EVERYTHING, customers, lasting, materialize, orders, read, write};

#[tokio::test]
async fn servers_of_one_database_share_online_values() {
    for one in App::shared_stores().await {
        shared_by_two(&one).await;
    }
}

async fn shared_by_two(one: &App) {
    customers(one).await;
    materialize(one).await;
    let other = one.replica();
    assert_eq!(orders(&other, 1).await, 4);
    let row = |day: &str, orders: i64| {
        json!({
            "customer_id": [1],
            "event_timestamp": [day],
            "total_orders": [orders],
            "avg_order_value": [1.0]
        })
    };
    assert_eq!(write(&other, row("2026-01-02", 20)).await["newer"], 1);
    assert_eq!(orders(one, 1).await, 20);
    // Older never takes the place of newer, whoever writes.
    assert_eq!(write(one, row("2026-01-01", 10)).await["newer"], 0);
    assert_eq!(orders(&other, 1).await, 20);
    // The bookmark is shared too.
    assert_eq!(materialize(&other).await["mode"], "nothing");
}

#[tokio::test]
async fn features_that_another_server_added_are_read_right() {
    for one in App::shared_stores().await {
        added_by_another(&one).await;
    }
}

async fn added_by_another(one: &App) {
    customers(one).await;
    materialize(one).await;
    let other = one.replica();
    assert_eq!(orders(&other, 1).await, 4);
    let (status, _) = one
        .json("DELETE", "/feast/features/customer_features", None)
        .await;
    assert_eq!(status, 204);
    let mut view = lasting();
    view["features"] = json!([
        {"name": "avg_order_value", "dtype": "float64"},
        {"name": "total_orders", "dtype": "int64"}
    ]);
    let (status, body) = one.post("/feast/features", view).await;
    assert_eq!(status, 201, "{body}");
    materialize(one).await;
    // What the other server knows of the view is old for a while; a wrong value it never gives.
    for _ in 0..50 {
        assert_eq!(orders(&other, 1).await, 4);
        assert_eq!(
            read(&other, json!([1])).await["results"][2]["values"][0],
            11.5
        );
    }
}

#[tokio::test]
async fn a_load_leaves_nothing_of_a_view_that_another_server_deleted_under_it() {
    for one in App::shared_stores().await {
        deleted_under_a_load(&one).await;
    }
}

async fn deleted_under_a_load(one: &App) {
    const CUSTOMERS: usize = 30_000;
    let row = |id: usize| format!("{id},2025-11-01T00:00:00,{id},1.0,gold\n");
    let head = "customer_id,event_timestamp,total_orders,avg_order_value,segment\n";
    let csv: String = std::iter::once(head.to_owned())
        .chain((1..=CUSTOMERS).map(row))
        .collect();
    let (status, body) = one.import("customer_aggregates", &csv).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = one.post("/feast/features", lasting()).await;
    assert_eq!(status, 201, "{body}");
    let other = one.replica();
    let path = "/feast/materialize-incremental";
    let some: Vec<usize> = (1..=CUSTOMERS).step_by(100).collect();
    let load = other.post(path, json!({"end_ts": EVERYTHING}));
    let delete = async {
        // As soon as there are the first rows of the load.
        let there = |body: Value| {
            let values = body["results"][1]["values"].as_array().unwrap().clone();
            values.iter().any(|value| !value.is_null())
        };
        let coming = async { while !there(read(one, json!(some)).await) {} };
        let came = tokio::time::timeout(Duration::from_secs(120), coming).await;
        came.expect("no rows of the load came");
        one.json("DELETE", "/feast/features/customer_features", None)
            .await
    };
    let ((loaded, body), (deleted, _)) = tokio::join!(load, delete);
    assert_eq!(deleted, 204);
    assert!(
        [200, 404, 409].contains(&loaded.as_u16()),
        "{loaded} {body}"
    );
    if loaded == 409 {
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("were removed"), "{message}");
    }
    let (status, body) = one.post("/feast/features", lasting()).await;
    assert_eq!(status, 201, "{body}");
    let nothing = read(one, json!(some)).await["results"][1]["values"].clone();
    assert!(nothing.as_array().unwrap().iter().all(Value::is_null));
    let done = materialize(one).await;
    assert_eq!(
        (&done["mode"], &done["entities"]),
        (&json!("full"), &json!(CUSTOMERS)),
        "{}",
        one.database
    );
}

#[tokio::test]
async fn a_shared_online_store_needs_postgres() {
    let db = db::testing::sqlite(&[feature_store::MIGRATIONS]).await;
    let config = Config {
        online: feature_store::OnlineStore::Postgres,
        ..Config::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let refused = feature_store::FeatureStore::new(db.clone(), &config, dir.path());
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("set database.url"), "{message}");
}
