//! Catalogs beside the local one, and tables in a bucket.

use bucket::{ACCESS_KEY, BUCKET, SECRET_KEY, Server};
use feature_store::{CatalogConfig, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{App, CUSTOMERS, customer_features};

/// A configuration whose catalog `iceberg` has its tables in the bucket.
fn in_bucket(endpoint: String, secret: &str, dir: &TempDir) -> Config {
    let catalog = CatalogConfig {
        uri: format!("sqlite:///{}/catalog.db", dir.path().display()),
        warehouse: format!("s3://{BUCKET}/lake"),
        endpoint: Some(endpoint),
        ..CatalogConfig::default()
    };
    let keys = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let keys = keys.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config {
        catalogs: [("iceberg".to_owned(), catalog)].into(),
        aws: aws::AwsVariables::from_variables(keys),
        ..Config::default()
    }
}

fn asked() -> Value {
    json!({
        "features": ["customer_features:total_orders"],
        "entities": {"customer_id": [1, 2], "event_timestamp": ["2025-11-03", "2025-11-03"]},
    })
}

#[tokio::test]
async fn tables_in_a_bucket_are_made_appended_to_and_read() {
    let (server, dir) = (Server::start().unwrap(), tempfile::tempdir().unwrap());
    let app = App::with(&in_bucket(server.endpoint(), SECRET_KEY, &dir)).await;
    app.customers().await;
    let more = "customer_id,event_timestamp,total_orders\n2,2025-11-02T00:00:00,7\n";
    let (status, body) = app.import("customer_aggregates", more).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = app.post("/feast/historical", asked()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"]["total_orders"], json!([4, 7]));
    let table = server.folder().join("lake/gold/customer_aggregates");
    assert_eq!(std::fs::read_dir(table.join("data")).unwrap().count(), 2);
}

#[tokio::test]
async fn a_bucket_that_refuses_or_is_gone_is_said_to_whom_it_concerns() {
    let (server, dir) = (Server::start().unwrap(), tempfile::tempdir().unwrap());
    let wrong = App::with(&in_bucket(server.endpoint(), "wrong", &dir)).await;
    let (status, body) = wrong.import("customer_aggregates", CUSTOMERS).await;
    assert_eq!(status, 502, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("may not be used"), "{message}");
    assert!(!message.contains("wrong"), "{message}");

    let app = App::with(&in_bucket(server.endpoint(), SECRET_KEY, &dir)).await;
    app.customers().await;
    drop(server);
    let (status, body) = app.post("/feast/historical", asked()).await;
    assert_eq!(status, 503, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("cannot be reached"), "{message}");
    let (status, body) = app.post("/feast/features", customer_features()).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_with_its_setting() {
    let catalog = CatalogConfig {
        uri: "postgresql://nobody@127.0.0.1:1/none".to_owned(),
        warehouse: "/srv/lake".to_owned(),
        ..CatalogConfig::default()
    };
    let config = Config {
        catalogs: [("lake".to_owned(), catalog)].into(),
        ..Config::default()
    };
    let app = App::with(&config).await;
    let (status, body) = app.get("/feast/tables/gold/orders?catalog=lake").await;
    assert_eq!(status, 503, "{body}");
    let help = body["help"].as_str().unwrap();
    assert!(help.contains("feature_store.catalogs.lake.uri"), "{help}");
}
