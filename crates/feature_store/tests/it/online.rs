//! The online store: writing to it, reading from it, and what a restart leaves.

use feature_store::Config;
use serde_json::{Value, json};

use crate::app::{App, CUSTOMERS, customer_features};

pub(crate) const EVERYTHING: &str = "2030-01-01";

/// The customers, with a view whose values hold for as long as these tests are run.
pub(crate) async fn customers(app: &App) {
    let (status, body) = app.import("customer_aggregates", CUSTOMERS).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = app.post("/feast/features", lasting()).await;
    assert_eq!(status, 201, "{body}");
}

pub(crate) fn lasting() -> Value {
    let mut view = customer_features();
    view["ttl_days"] = json!(36500);
    view
}

pub(crate) async fn materialize(app: &App) -> Value {
    let (status, body) = app
        .post(
            "/feast/materialize-incremental",
            json!({"end_ts": EVERYTHING}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body["materialized"][0].clone()
}

pub(crate) async fn read(app: &App, customers: Value) -> Value {
    let (status, body) = app
        .post(
            "/feast/get-online-features",
            json!({
                "entities": {"customer_id": customers},
                "features": ["customer_features:total_orders", "customer_features:avg_order_value"],
            }),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body
}

pub(crate) async fn orders(app: &App, customer: i64) -> Value {
    read(app, json!([customer])).await["results"][1]["values"][0].clone()
}

pub(crate) async fn write(app: &App, df: Value) -> Value {
    let (status, body) = app
        .post(
            "/feast/write-to-online-store",
            json!({"feature_view_name": "customer_features", "df": df, "allow_registry_cache": false}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn what_is_materialized_is_read_as_feast_answers_it() {
    for app in App::online_stores().await {
        customers(&app).await;
        let before = read(&app, json!([1])).await;
        assert_eq!(before["results"][1]["statuses"], json!(["NOT_FOUND"]));
        let done = materialize(&app).await;
        assert_eq!(done["mode"], "full");
        assert_eq!(
            (&done["rows_read"], &done["entities"]),
            (&json!(3), &json!(2))
        );
        let body = read(&app, json!([2, 9, 1, null])).await;
        assert_eq!(
            body["metadata"]["feature_names"],
            json!(["customer_id", "total_orders", "avg_order_value"])
        );
        assert_eq!(body["results"][0]["values"], json!([2, 9, 1, null]));
        assert_eq!(body["results"][1]["values"], json!([1, null, 4, null]));
        assert_eq!(
            body["results"][2]["values"],
            json!([99.0, null, 11.5, null])
        );
        assert_eq!(
            body["results"][1]["statuses"],
            json!(["PRESENT", "NOT_FOUND", "PRESENT", "NOT_FOUND"])
        );
        assert_eq!(
            body["results"][1]["event_timestamps"],
            json!([
                "2025-11-01T12:00:00Z",
                "1970-01-01T00:00:00Z",
                "2025-11-02T00:00:00Z",
                "1970-01-01T00:00:00Z"
            ])
        );
        let (_, view) = app.get("/feast/features/customer_features").await;
        assert_eq!(
            view["materialized"],
            json!([{"start": "2025-11-01T00:00:00Z", "end": "2030-01-01T00:00:00Z"}])
        );
    }
}

#[tokio::test]
async fn an_older_row_never_takes_the_place_of_a_newer_one() {
    let app = App::sqlite().await;
    customers(&app).await;
    let row = |at: &str, created: Value, orders: i64| {
        json!({
            "customer_id": [1], "event_timestamp": [at], "created": [created],
            "total_orders": [orders], "avg_order_value": [1],
        })
    };
    let day = "2025-12-01T00:00:00";
    let first = write(&app, row(day, Value::Null, 10)).await;
    assert_eq!((&first["rows"], &first["newer"]), (&json!(1), &json!(1)));
    assert_eq!(
        write(&app, row("2025-11-30T23:59:59.999999", Value::Null, 9)).await["newer"],
        0
    );
    assert_eq!(orders(&app, 1).await, 10);
    // Of the same time, the one created later counts; a null is older than any.
    write(&app, row(day, json!("2025-12-02"), 11)).await;
    write(&app, row(day, json!("2025-12-01"), 12)).await;
    write(&app, row(day, Value::Null, 13)).await;
    assert_eq!(orders(&app, 1).await, 11);
    materialize(&app).await;
    assert_eq!(
        (orders(&app, 1).await, orders(&app, 2).await),
        (json!(11), json!(1))
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    for app in App::online_stores().await {
        customers(&app).await;
        materialize(&app).await;
        let df = json!({
            "customer_id": [1, 5], "event_timestamp": ["2025-12-01", "2025-12-01"],
            "total_orders": [20, 21], "avg_order_value": [0.5, null],
        });
        write(&app, df).await;
        let app = app.restarted().await;
        let values = read(&app, json!([1, 2, 5])).await;
        assert_eq!(values["results"][1]["values"], json!([20, 1, 21]));
        assert_eq!(values["results"][2]["values"], json!([0.5, 99.0, null]));
        assert_eq!(values["results"][2]["statuses"][2], "PRESENT");
        assert_eq!(materialize(&app).await["mode"], "nothing");
    }
}

#[tokio::test]
async fn rows_are_pushed_to_the_online_store_and_to_the_table() {
    let app = App::sqlite().await;
    customers(&app).await;
    let push = |to: &'static str| {
        let df = json!({
            "customer_id": [7], "event_timestamp": ["2025-12-01T00:00:00"],
            "total_orders": [3], "avg_order_value": [2.5],
        });
        let app = &app;
        async move {
            let body = json!({"push_source_name": "customer_features", "df": df, "to": to});
            app.post("/feast/push", body).await
        }
    };
    let (status, body) = push("online_and_offline").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["written"][0]["newer"], 1);
    assert_eq!(orders(&app, 7).await, 3);
    let (_, history) = app
        .post(
            "/feast/historical",
            json!({"features": ["customer_features:total_orders"],
                "entities": {"customer_id": [7], "event_timestamp": ["2025-12-02"]}}),
        )
        .await;
    assert_eq!(history["data"]["total_orders"], json!([3]));
    let (status, body) = push("nowhere").await;
    assert_eq!(status, 400);
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("online_and_offline")
    );
}

#[tokio::test]
async fn mistakes_name_their_cause_and_write_nothing() {
    let app = App::sqlite().await;
    customers(&app).await;
    let rows = |change: fn(&mut Value)| {
        let mut df = json!({
            "customer_id": [1, 2], "event_timestamp": ["2025-12-01", "2025-12-01"],
            "total_orders": [1, 2], "avg_order_value": [1.0, 2.0],
        });
        change(&mut df);
        json!({"feature_view_name": "customer_features", "df": df})
    };
    let path = "/feast/write-to-online-store";
    for (change, status, message) in [
        (
            (|df: &mut Value| df["total_orders"] = json!([1, 2.5])) as fn(&mut Value),
            400,
            "row 1, column \"total_orders\": 2.5 is no whole number",
        ),
        (
            |df| df["customer_id"] = json!([1, "x"]),
            400,
            "join key \"customer_id\": \"x\" is no whole number",
        ),
        (
            |df| df["customer_id"] = json!([1, null]),
            400,
            "cannot be null",
        ),
        (
            |df| df["event_timestamp"] = json!(["2025-12-01", "soon"]),
            400,
            "\"soon\" is no time",
        ),
        (|df| df["total_orders"] = json!([1]), 400, "has 1 values"),
        (
            |df| {
                df.as_object_mut().unwrap().remove("avg_order_value");
            },
            400,
            "no column \"avg_order_value\"",
        ),
    ] {
        let (got, body) = app.post(path, rows(change)).await;
        assert_eq!(got, status, "{body}");
        let told = body["message"].as_str().unwrap();
        assert!(told.contains(message), "{told}");
    }
    assert_eq!(orders(&app, 1).await, Value::Null);
    let get = "/feast/get-online-features";
    let features = json!(["customer_features:total_orders"]);
    for (request, status, message) in [
        (
            json!({"entities": {}, "features": features}),
            400,
            "no \"customer_id\"",
        ),
        (
            json!({"entities": {"customer_id": ["x"]}, "features": features}),
            400,
            "no whole number",
        ),
        (
            json!({"entities": {"customer_id": [1], "b": [1, 2]}, "features": features}),
            400,
            "as many of each",
        ),
        (
            json!({"entities": {"customer_id": [1]}}),
            400,
            "VIEW:FEATURE",
        ),
        (
            json!({"entities": {"customer_id": [1]}, "features": ["none:x"]}),
            404,
            "Feature view 'none' not found",
        ),
        (
            json!({"entities": [1], "features": features}),
            422,
            "as documented",
        ),
    ] {
        let (got, body) = app.post(get, request).await;
        assert_eq!(got, status, "{body}");
        assert!(
            body["message"].as_str().unwrap().contains(message),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_view_that_is_deleted_takes_its_rows_with_it() {
    let app = App::sqlite().await;
    customers(&app).await;
    materialize(&app).await;
    let (status, _) = app
        .json("DELETE", "/feast/features/customer_features", None)
        .await;
    assert_eq!(status, 204);
    let (status, _) = app.post("/feast/features", lasting()).await;
    assert_eq!(status, 201);
    assert_eq!(orders(&app, 1).await, Value::Null);
    assert_eq!(materialize(&app).await["mode"], "full");
    assert_eq!(orders(&app, 1).await, 4);
}

/// Deletes a view of which the online values could not be removed.
pub(crate) async fn delete_but_for_rows(app: &App, view: &str) {
    let sql = "DELETE FROM feature_objects WHERE kind = 'feature_view' AND name = $1";
    let mut tx = app.db.begin().await.unwrap();
    let deleted = db::query(sql).bind(view).execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(deleted, 1);
}

#[tokio::test]
async fn a_view_begins_without_the_rows_that_another_of_its_name_has_left() {
    for app in App::online_stores().await {
        customers(&app).await;
        materialize(&app).await;
        assert_eq!(orders(&app, 1).await, 4);
        delete_but_for_rows(&app, "customer_features").await;
        let (status, body) = app.post("/feast/features", lasting()).await;
        assert_eq!(status, 201, "{body}");
        let statuses = read(&app, json!([1])).await["results"][1]["statuses"].clone();
        assert_eq!(statuses, json!(["NOT_FOUND"]), "{}", app.database);
        assert_eq!(materialize(&app).await["mode"], "full", "{}", app.database);
        assert_eq!(orders(&app, 1).await, 4);
    }
}

#[tokio::test]
async fn a_view_that_is_deleted_while_rows_are_pushed_leaves_none_of_them() {
    let app = App::sqlite().await;
    customers(&app).await;
    let row = json!({"customer_id": [1], "event_timestamp": ["2025-11-03T00:00:00Z"],
        "total_orders": [7], "avg_order_value": [1.0], "segment": ["gold"]});
    let push = json!({"push_source_name": "customer_features", "df": row});
    for _ in 0..10 {
        let pushes = async {
            for _ in 0..10 {
                let (status, body) = app.post("/feast/push", push.clone()).await;
                assert!(
                    [200, 404, 409].contains(&status.as_u16()),
                    "{status} {body}"
                );
            }
        };
        let delete = app.json("DELETE", "/feast/features/customer_features", None);
        let ((), (status, _)) = tokio::join!(pushes, delete);
        assert_eq!(status, 204);
        let (status, _) = app.post("/feast/features", lasting()).await;
        assert_eq!(status, 201);
        assert_eq!(orders(&app, 1).await, Value::Null);
    }
}

#[tokio::test]
async fn a_view_with_other_features_is_loaded_anew() {
    let app = App::sqlite().await;
    customers(&app).await;
    materialize(&app).await;
    app.json("DELETE", "/feast/features/customer_features", None)
        .await;
    let mut view = lasting();
    view["features"] = json!([{"name": "segment", "dtype": "string"}]);
    view["online"] = json!(false);
    app.post("/feast/features", view).await;
    let named = json!({"end_ts": EVERYTHING, "feature_views": ["customer_features"]});
    let (status, body) = app.post("/feast/materialize-incremental", named).await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("online: true"));
}

#[tokio::test]
async fn a_value_beyond_the_ttl_is_left_out_only_where_that_is_set() {
    for (enforce_ttl, status) in [(false, "PRESENT"), (true, "OUTSIDE_MAX_AGE")] {
        let app = App::with(&Config {
            enforce_ttl,
            ..Config::default()
        })
        .await;
        customers(&app).await;
        let mut view = customer_features();
        view["name"] = json!("short");
        view["ttl_days"] = json!(1);
        app.post("/feast/features", view).await;
        let span = json!({"start_ts": "2025-01-01", "end_ts": EVERYTHING});
        app.post("/feast/materialize", span).await;
        let request = json!({"entities": {"customer_id": [1]}, "features": ["short:total_orders"]});
        let (_, body) = app.post("/feast/get-online-features", request).await;
        assert_eq!(body["results"][1]["statuses"], json!([status]));
    }
}

#[tokio::test]
async fn values_of_another_project_have_paths_of_their_own() {
    let app = App::sqlite().await;
    customers(&app).await;
    materialize(&app).await;
    let question = json!({
        "entities": {"customer_id": [1]},
        "features": ["customer_features:total_orders"]
    });
    let at = |project: &str| format!("/feast/projects/{project}/get-online-features");
    let (status, body) = app.post(&at("default"), question.clone()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["results"][1]["values"], json!([4]));
    let (status, body) = app.post(&at("team"), question).await;
    assert_eq!(status, 404, "{body}");
    let request = axum::http::Request::get("/feast/repo?project=team")
        .header("host", "localhost:8000")
        .body(axum::body::Body::empty())
        .unwrap();
    let (_, yaml) = app.send(request).await;
    let yaml = String::from_utf8(yaml).unwrap();
    assert!(yaml.contains("project: team"), "{yaml}");
    assert!(
        yaml.contains("localhost:8000/feast/projects/team"),
        "{yaml}"
    );
}
