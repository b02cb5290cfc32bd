//! Tables: imports, lists, and tables that pyiceberg made.

use feature_store::Config;
use serde_json::json;

use crate::app::{App, CUSTOMERS};

#[tokio::test]
async fn a_csv_file_becomes_a_table_and_a_second_one_is_appended() {
    let app = App::sqlite().await;
    let (status, first) = app.import("customers", CUSTOMERS).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(
        (&first["rows"], &first["created"]),
        (&json!(3), &json!(true))
    );
    let types: Vec<_> = first["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["type"].clone())
        .collect();
    assert_eq!(types, ["long", "timestamp", "long", "double", "string"]);
    let (status, second) = app.import("customers", CUSTOMERS).await;
    assert_eq!(status, 201, "{second}");
    assert_eq!(second["created"], json!(false));
    let (_, table) = app.get("/feast/tables/gold/customers").await;
    assert_eq!(table["snapshots"], json!(2));
    assert_eq!(table["snapshot_id"], second["snapshot_id"]);
    let (_, all) = app.get("/feast/tables").await;
    assert_eq!(
        all["tables"],
        json!([{"catalog": "iceberg", "schema": "gold", "name": "customers"}])
    );
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_and_not_kept() {
    let config = Config {
        import_limit_bytes: Some(CUSTOMERS.len() as u64),
        ..Config::default()
    };
    let app = App::with(&config).await;
    let (status, fits) = app.import("customers", CUSTOMERS).await;
    assert_eq!(status, 201, "{fits}");
    let long = format!("{CUSTOMERS}9,2025-01-01T00:00:00,1,1.0,x\n");
    // Also when nothing says beforehand how long it is.
    let (status, refused) = app.import("customers", &long).await;
    assert_eq!(status, 413, "{refused}");
    let help = refused["help"].as_str().unwrap();
    assert!(help.contains("feature_store.import_limit_bytes"), "{help}");
    let announced = app.import_announced("customers", 1 << 40).await;
    assert_eq!(announced, 413);
    let (_, table) = app.get("/feast/tables/gold/customers").await;
    assert_eq!(table["snapshots"], json!(1));
}

#[tokio::test]
async fn a_file_that_does_not_fit_leaves_the_table_as_it_was() {
    let app = App::sqlite().await;
    app.import("customers", CUSTOMERS).await;
    let (_, before) = app.get("/feast/tables/gold/customers").await;
    let (status, body) = app
        .import("customers", "customer_id,churned\n1,true\n")
        .await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("its columns are: customer_id, event_timestamp"),
        "{body}"
    );
    let (status, body) = app
        .import("customers", "customer_id,total_orders\none,2\n")
        .await;
    assert_eq!(status, 400, "{body}");
    let (status, _) = app
        .import_as(
            "customers",
            "application/vnd.apache.parquet",
            b"no".to_vec(),
        )
        .await;
    assert_eq!(status, 400);
    let (status, _) = app
        .import_as("customers", "text/plain", b"no".to_vec())
        .await;
    assert_eq!(status, 415);
    let (_, after) = app.get("/feast/tables/gold/customers").await;
    assert_eq!(before, after);
    let incoming = app.dir.path().join("warehouse/.incoming");
    assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
}

#[tokio::test]
async fn an_unknown_table_is_answered_with_those_that_there_are() {
    let app = App::sqlite().await;
    app.import("customers", CUSTOMERS).await;
    let (status, body) = app.get("/feast/tables/gold/orders").await;
    assert_eq!(status, 404);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .ends_with("there are: customers"),
        "{body}"
    );
    let (status, body) = app.get("/feast/tables/silver/orders").await;
    assert_eq!(status, 404);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .ends_with("the schema has no tables"),
        "{body}"
    );
    let (status, body) = app.get("/feast/tables/gold/orders?catalog=lake").await;
    assert_eq!(status, 400);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("there are: iceberg"),
        "{body}"
    );
}

#[tokio::test]
async fn a_name_cannot_leave_the_warehouse() {
    let app = App::sqlite().await;
    for name in ["..%2f..%2fx", "a%2Fb", "%2e%2e"] {
        let (status, _) = app.import(name, CUSTOMERS).await;
        assert_eq!(status, 400, "{name}");
    }
}

#[tokio::test]
async fn a_catalog_of_an_older_pyiceberg_opens() {
    use sqlx::{Connection as _, Executor as _};
    let app = App::sqlite().await;
    app.import("customers", CUSTOMERS).await;
    // pyiceberg before 0.12 has no column iceberg_type.
    let path = app.dir.path().join("warehouse/catalog.db");
    let url = format!("sqlite://{}", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    conn.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
        .await
        .unwrap();
    conn.close().await.unwrap();
    let again = feature_store::Catalogs::new(&feature_store::Config::default(), app.dir.path());
    let tables = again.tables("iceberg").await.unwrap();
    assert_eq!(tables.len(), 1);
    assert!(again.table(&tables[0]).await.is_ok());
}
