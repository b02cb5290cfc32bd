//! Point-in-time reads: the cases on which Feast's stores disagree, with what asgard answers.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::app::{App, customer_features};

async fn read(app: &App, entities: Value) -> Value {
    let (status, body) = app
        .post(
            "/feast/historical",
            json!({
                "features": ["customer_features:total_orders", "customer_features:avg_order_value"],
                "entities": entities,
            }),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn every_entity_row_comes_back_once_and_in_its_place() {
    for app in App::both().await {
        app.customers().await;
        let body = read(
            &app,
            json!({
                "customer_id": [2, 1, 1, 1, 9, null, 1, 1],
                "event_timestamp": [
                    "2025-11-03", "2025-11-02T00:00:00", "2025-11-01T23:59:59.999999Z",
                    "2025-11-02T00:00:00", "2025-11-03", "2025-11-03", "2025-10-01", null
                ],
                "label": ["a", "b", "c", "d", "e", "f", "g", "h"],
            }),
        )
        .await;
        assert_eq!(
            body["columns"],
            json!([
                "customer_id",
                "event_timestamp",
                "label",
                "total_orders",
                "avg_order_value"
            ])
        );
        assert_eq!(
            body["data"]["label"],
            json!(["a", "b", "c", "d", "e", "f", "g", "h"])
        );
        assert_eq!(
            body["data"]["total_orders"],
            json!([1, 4, 3, 4, null, null, null, null])
        );
        assert_eq!(
            body["data"]["avg_order_value"],
            json!([99.0, 11.5, 10.5, 11.5, null, null, null, null])
        );
        assert_eq!(body["data"]["event_timestamp"][0], "2025-11-03T00:00:00Z");
    }
}

#[tokio::test]
async fn the_ttl_is_inclusive_to_the_microsecond() {
    let app = App::sqlite().await;
    app.customers().await;
    let mut view = customer_features();
    view["name"] = json!("short");
    view["ttl_days"] = Value::Null;
    view["ttl_seconds"] = json!(60);
    let (status, _) = app.post("/feast/features", view).await;
    assert_eq!(status, 201);
    let (_, body) = app
        .post(
            "/feast/historical",
            json!({"features": ["short:total_orders"], "entities": {
                "customer_id": [1, 1],
                "event_timestamp": ["2025-11-02T00:01:00", "2025-11-02T00:01:00.000001"],
            }}),
        )
        .await;
    assert_eq!(body["data"]["total_orders"], json!([4, null]));
}

#[tokio::test]
async fn of_rows_of_the_same_time_the_one_created_last_counts_and_its_null_is_the_value() {
    let app = App::sqlite().await;
    let rows = "\
id,event_timestamp,created,x,y
1,2025-01-01T00:00:00,2025-01-02T00:00:00,1,1
1,2025-01-01T00:00:00,2025-01-03T00:00:00,2,
1,2025-01-01T00:00:00,,3,3
";
    app.import("t", rows).await;
    let view = json!({
        "name": "v", "entities": ["id"],
        "features": [{"name": "x", "dtype": "int32"}, {"name": "y", "dtype": "int64"}],
        "source": {"table_name": "t", "schema": "gold", "created_timestamp_column": "created"},
    });
    let (status, body) = app.post("/feast/features", view).await;
    assert_eq!(status, 201, "{body}");
    let (_, body) = app
        .post(
            "/feast/historical",
            json!({"features": ["v:x", "v:y"], "full_feature_names": true,
                "entities": [{"id": 1, "event_timestamp": "2025-06-01"}]}),
        )
        .await;
    assert_eq!(
        (&body["data"]["v__x"], &body["data"]["v__y"]),
        (&json!([2]), &json!([null]))
    );
}

#[tokio::test]
async fn a_read_at_an_earlier_snapshot_gives_the_earlier_answer() {
    let app = App::sqlite().await;
    app.customers().await;
    let entities = json!({"customer_id": [1], "event_timestamp": ["2025-12-01"]});
    let before = read(&app, entities.clone()).await;
    app.import(
        "customer_aggregates",
        "customer_id,event_timestamp,total_orders\n1,2025-11-20T00:00:00,50\n",
    )
    .await;
    let after = read(&app, entities.clone()).await;
    assert_eq!(
        (
            &before["data"]["total_orders"],
            &after["data"]["total_orders"]
        ),
        (&json!([4]), &json!([50]))
    );
    let (_, again) = app
        .post(
            "/feast/historical",
            json!({"features": ["customer_features:total_orders"], "entities": entities,
                "snapshots": before["snapshots"]}),
        )
        .await;
    assert_eq!(again["data"]["total_orders"], json!([4]));
    let (status, body) = app
        .post(
            "/feast/historical",
            json!({"features": ["customer_features:total_orders"], "entities": entities,
                "snapshots": {"customer_features": 12345}}),
        )
        .await;
    assert!(
        status.is_client_error() || status.as_u16() == 502,
        "{status} {body}"
    );
    assert!(
        body["message"].as_str().unwrap().contains("12345"),
        "{body}"
    );
}

#[tokio::test]
async fn every_mistake_in_a_read_is_named() {
    let app = App::sqlite().await;
    app.customers().await;
    let day = json!(["2025-12-01"]);
    for (features, entities, expected, message) in [
        (
            json!(["customer_features:orders"]),
            json!({"customer_id": [1], "event_timestamp": day}),
            400,
            "it has: total_orders, avg_order_value",
        ),
        (
            json!(["customers:orders"]),
            json!({"customer_id": [1], "event_timestamp": day}),
            404,
            "there are: customer_features",
        ),
        (
            json!(["total_orders"]),
            json!({"customer_id": [1], "event_timestamp": day}),
            400,
            "VIEW:FEATURE",
        ),
        (
            json!([]),
            json!({"customer_id": [1], "event_timestamp": day}),
            400,
            "feature_service",
        ),
        (
            json!(["customer_features:total_orders"]),
            json!({"id": [1], "event_timestamp": day}),
            400,
            "their columns are: event_timestamp, id",
        ),
        (
            json!(["customer_features:total_orders"]),
            json!({"customer_id": ["x"], "event_timestamp": day}),
            400,
            "is Utf8 in the entity rows but Int64",
        ),
        (
            json!(["customer_features:total_orders"]),
            json!({"customer_id": [1]}),
            400,
            "no column \"event_timestamp\"",
        ),
        (
            json!(["customer_features:total_orders"]),
            json!({"customer_id": [1], "event_timestamp": ["soon"]}),
            400,
            "soon",
        ),
        (
            json!(["customer_features:total_orders"]),
            json!({"customer_id": [1, 2], "event_timestamp": day}),
            400,
            "1 values",
        ),
    ] {
        let (status, body) = app
            .post(
                "/feast/historical",
                json!({"features": features, "entities": entities}),
            )
            .await;
        assert_eq!(status, expected, "{body}");
        let said = body["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
    }
}

#[tokio::test]
async fn a_table_goes_in_and_comes_out_as_csv_parquet_and_arrow() {
    let app = App::sqlite().await;
    app.customers().await;
    let csv = "customer_id,event_timestamp\n1,2025-11-02T12:00:00\n";
    let mut body = csv.as_bytes().to_vec();
    for (kind, format) in [
        ("text/csv", "parquet"),
        ("application/vnd.apache.parquet", "arrow"),
        ("application/vnd.apache.arrow.stream", "csv"),
    ] {
        let request = Request::post(format!(
            "/feast/historical?features=customer_features:total_orders&format={format}"
        ))
        .header("host", "localhost")
        .header("content-type", kind)
        .body(Body::from(body))
        .unwrap();
        let (status, answer) = app.send(request).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        body = answer;
    }
    // Fed back twice, the earlier answer's column is kept and the later one stands behind it.
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "customer_id,event_timestamp,total_orders,total_orders__,total_orders__\n1,2025-11-02T12:00:00Z,4,4,4\n"
    );
}

#[tokio::test]
async fn a_table_that_is_gone_is_told() {
    let app = App::sqlite().await;
    app.customers().await;
    std::fs::remove_dir_all(app.dir.path().join("warehouse/gold")).unwrap();
    let (status, body) = app
        .post(
            "/feast/historical",
            json!({"features": ["customer_features:total_orders"],
                "entities": {"customer_id": [1], "event_timestamp": ["2025-12-01"]}}),
        )
        .await;
    assert_eq!(status, 502, "{body}");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("iceberg.gold.customer_aggregates cannot be opened"),
        "{body}"
    );
}

/// What lies between two times, in a form that is sent while it is read.
async fn between(app: &App, format: &str) -> Vec<u8> {
    let body = json!({
        "features": ["customer_features:total_orders"],
        "start_date": "2025-11-01", "end_date": "2025-11-01T12:00:00Z",
        "format": format,
    });
    let request = Request::post("/feast/historical")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let (status, body) = app.send(request).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    body
}

#[tokio::test]
async fn without_entity_rows_all_rows_between_two_times_are_read() {
    for app in App::both().await {
        app.customers().await;
        let csv = String::from_utf8(between(&app, "csv").await).unwrap();
        assert_eq!(
            csv,
            "event_timestamp,customer_id,total_orders\n\
             2025-11-01T00:00:00Z,1,3\n\
             2025-11-01T12:00:00Z,2,1\n"
        );
        let json: Value = serde_json::from_slice(&between(&app, "json").await).unwrap();
        assert_eq!(json["data"]["total_orders"], json!([3, 1]));
        assert_eq!(json["row_count"], 2);
        assert!(json["snapshots"]["customer_features"].is_i64(), "{json}");
        // What was sent in parts is a whole file.
        let file = between(&app, "parquet").await;
        let (status, made) = app
            .import_as("from_parquet", "application/vnd.apache.parquet", file)
            .await;
        assert_eq!((status.as_u16(), &made["rows"]), (201, &json!(2)), "{made}");
    }
}

#[tokio::test]
async fn of_several_views_each_time_comes_once_with_what_was_known_then() {
    let app = App::sqlite().await;
    app.customers().await;
    let visits = "\
visitor,at,visits
1,2025-10-31T00:00:00,5
1,2025-11-01T18:00:00,6
3,2025-11-02T00:00:00,7
";
    app.import("visits", visits).await;
    let baskets = "\
customer_id,shop,at,items
1,north,2025-11-01T18:00:00,2
2,south,2025-11-02T00:00:00,1
";
    app.import("baskets", baskets).await;
    for view in [
        json!({"name": "visits", "entities": ["customer_id"], "join_keys": ["customer_id"],
            "features": [{"name": "visits", "dtype": "int64"}],
            "source": {"table_name": "visits", "schema": "gold",
                "field_mapping": {"visitor": "customer_id"}}}),
        json!({"name": "baskets", "entities": ["customer_id", "shop"],
            "features": [{"name": "items", "dtype": "int64"}],
            "source": {"table_name": "baskets", "schema": "gold"}}),
        json!({"name": "others", "entities": ["visitor"],
            "features": [{"name": "visits", "dtype": "int64"}],
            "source": {"table_name": "visits", "schema": "gold"}}),
    ] {
        let (status, body) = app.post("/feast/features", view).await;
        assert_eq!(status, 201, "{body}");
    }
    let mut asked = json!({
        "features": ["customer_features:total_orders", "visits:visits"],
        "start_date": "2025-11-01", "end_date": "2025-11-02",
    });
    let (status, body) = app.post("/feast/historical", asked.clone()).await;
    assert_eq!(status, 200, "{body}");
    let times = [
        "2025-11-01T00:00:00Z",
        "2025-11-01T12:00:00Z",
        "2025-11-01T18:00:00Z",
        "2025-11-02T00:00:00Z",
        "2025-11-02T00:00:00Z",
    ];
    assert_eq!(
        body["data"],
        json!({
            "event_timestamp": times,
            "customer_id": [1, 2, 1, 1, 3],
            "total_orders": [3, 1, 3, 4, null],
            // What was known before the first time counts too.
            "visits": [5, null, 6, 6, 7],
        })
    );
    // The rows are those of the view of more entities, which the other is joined to.
    asked["features"] = json!(["customer_features:total_orders", "baskets:items"]);
    let (status, body) = app.post("/feast/historical", asked.clone()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["data"],
        json!({
            "event_timestamp": [times[2], times[3]],
            "customer_id": [1, 2],
            "shop": ["north", "south"],
            "total_orders": [3, 1],
            "items": [2, 1],
        })
    );
    asked["features"] = json!(["customer_features:total_orders", "others:visits"]);
    let (status, body) = app.post("/feast/historical", asked).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body.to_string().contains("views of the same entities"),
        "{body}"
    );
}

#[tokio::test]
async fn two_times_and_entity_rows_exclude_each_other() {
    let app = App::sqlite().await;
    app.customers().await;
    for (start, entities, problem) in [
        (
            "2025-11-01",
            json!({"customer_id": [1], "event_timestamp": ["2025-11-02"]}),
            "leave entities",
        ),
        ("2025-12-01", Value::Null, "later than end_date"),
        ("soon", Value::Null, "is no time"),
    ] {
        let (status, body) = app
            .post(
                "/feast/historical",
                json!({"features": ["customer_features:total_orders"], "entities": entities,
                    "start_date": start, "end_date": "2025-11-02"}),
            )
            .await;
        assert_eq!(status, 400, "{body}");
        assert!(body.to_string().contains(problem), "{body}");
    }
}
