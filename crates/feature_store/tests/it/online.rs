//! The online store: loading it, writing to it, reading from it, and what a restart leaves.

use std::time::Duration;

use feature_store::Config;
use serde_json::{Value, json};

use crate::app::{App, CUSTOMERS, customer_features};

const EVERYTHING: &str = "2030-01-01";

/// The customers, with a view whose values hold for as long as these tests are run.
async fn customers(app: &App) {
    let (status, body) = app.import("customer_aggregates", CUSTOMERS).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = app.post("/feast/features", lasting()).await;
    assert_eq!(status, 201, "{body}");
}

fn lasting() -> Value {
    let mut view = customer_features();
    view["ttl_days"] = json!(36500);
    view
}

async fn materialize(app: &App) -> Value {
    let (status, body) = app
        .post(
            "/feast/materialize-incremental",
            json!({"end_ts": EVERYTHING}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    body["materialized"][0].clone()
}

async fn read(app: &App, customers: Value) -> Value {
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

async fn orders(app: &App, customer: i64) -> Value {
    read(app, json!([customer])).await["results"][1]["values"][0].clone()
}

async fn write(app: &App, df: Value) -> Value {
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
async fn the_next_run_reads_only_what_was_added_and_takes_late_rows() {
    let app = App::sqlite().await;
    customers(&app).await;
    materialize(&app).await;
    assert_eq!(materialize(&app).await["mode"], "nothing");
    // A later row of one customer, a row of an earlier time of another, and a new one whose time
    // is before the end of the last run.
    let late = "\
customer_id,event_timestamp,total_orders,avg_order_value,segment
1,2025-11-03T00:00:00,5,12.5,gold
2,2025-10-01T00:00:00,0,1.0,old
3,2025-10-01T00:00:00,7,7.0,late
";
    let (status, body) = app.import("customer_aggregates", late).await;
    assert_eq!(status, 201, "{body}");
    let done = materialize(&app).await;
    assert_eq!(
        (&done["mode"], &done["rows_read"]),
        (&json!("appended"), &json!(3))
    );
    assert_eq!(done["entities_written"], 2);
    let values = read(&app, json!([1, 2, 3])).await["results"][1]["values"].clone();
    assert_eq!(values, json!([5, 1, 7]));
}

#[tokio::test]
async fn rows_of_a_later_time_than_asked_for_are_loaded_when_their_time_has_come() {
    let app = App::sqlite().await;
    customers(&app).await;
    let until = |end: &'static str| {
        let app = &app;
        async move {
            let body = json!({"end_ts": end, "feature_views": ["customer_features"]});
            app.post("/feast/materialize-incremental", body).await
        }
    };
    until("2025-11-01T06:00:00Z").await;
    assert_eq!(orders(&app, 1).await, 3);
    assert_eq!(orders(&app, 2).await, Value::Null);
    let (_, body) = until("2025-11-02T00:00:00+00:00").await;
    assert_eq!(body["materialized"][0]["mode"], "full");
    assert_eq!(
        (orders(&app, 1).await, orders(&app, 2).await),
        (json!(4), json!(1))
    );
}

#[tokio::test]
async fn a_span_of_times_is_loaded_with_both_its_ends() {
    let app = App::sqlite().await;
    customers(&app).await;
    let span = json!({"start_ts": "2025-11-01T12:00:00", "end_ts": "2025-11-01T12:00:00"});
    let (status, body) = app.post("/feast/materialize", span).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (orders(&app, 1).await, orders(&app, 2).await),
        (Value::Null, json!(1))
    );
    let backwards = json!({"start_ts": "2025-11-02", "end_ts": "2025-11-01"});
    assert_eq!(app.post("/feast/materialize", backwards).await.0, 400);
    let no_time = json!({"start_ts": "soon", "end_ts": "2025-11-01"});
    assert_eq!(app.post("/feast/materialize", no_time).await.0, 400);
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

#[tokio::test]
async fn an_asynchronous_load_is_answered_first_and_tells_its_end() {
    for app in App::online_stores().await {
        customers(&app).await;
        let all = json!({"end_ts": EVERYTHING});
        let path = "/feast/materialize-incremental?async=true";
        let (status, body) = app.post(path, all).await;
        assert_eq!(status, 202, "{body}");
        assert_eq!(body["feature_views"], json!(["customer_features"]));
        let path = "/feast/features/customer_features/materializations";
        let loads = async || app.get(path).await.1;
        let ended = async {
            while loads().await["materializations"][0]["mode"] == "running" {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, ended).await.unwrap();
        assert_eq!(loads().await["materializations"][0]["mode"], "full");
        assert_eq!(orders(&app, 1).await, 4);
        let unknown = json!({"feature_views": ["nothing"]});
        let path = "/feast/materialize-incremental?async=true";
        let (status, body) = app.post(path, unknown).await;
        assert_eq!(status, 404, "{body}");
    }
}

#[tokio::test]
async fn a_load_whose_client_hangs_up_goes_on_to_its_end() {
    use futures_util::FutureExt as _;

    for app in App::both().await {
        app.customers().await;
        // Twice the same view is once.
        let load = json!({
            "feature_views": ["customer_features", "customer_features"],
            "start_ts": "2025-10-01",
            "end_ts": "2025-11-03"
        });
        let asked = app.post("/feast/materialize", load);
        assert!(asked.now_or_never().is_none(), "{}", app.database);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let (_, body) = app
                .get("/feast/features/customer_features/materializations")
                .await;
            let loads = body["materializations"].as_array().unwrap();
            if loads.len() == 1 && loads[0]["mode"] == "full" {
                break;
            }
            assert!(std::time::Instant::now() < end, "{body}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(orders(&app, 1).await, json!(4), "{}", app.database);
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
