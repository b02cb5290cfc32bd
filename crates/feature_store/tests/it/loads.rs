//! Loading the online store from tables.

use serde_json::{Value, json};

use crate::app::App;
use crate::online::{EVERYTHING, customers, materialize, orders, read};

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
