//! What a view holds, when it was loaded, who read it.

use serde_json::json;
use web::Identity;

use crate::app::App;

const VISITS: &str = "\
customer_id,event_timestamp,visits,score,segment,active
1,2025-11-01T00:00:00,3,0.5,gold,true
2,2025-11-02T00:00:00,,1.5,gold,false
3,2025-11-03T00:00:00,9,,new,true
,2025-11-04T00:00:00,5,2.5,,true
";

async fn visits(app: &App) {
    let (status, body) = app.import("visits", VISITS).await;
    assert_eq!(status, 201, "{body}");
    let view = json!({
        "name": "visits",
        "entities": ["customer_id"],
        "features": [
            {"name": "visits", "dtype": "int64"},
            {"name": "score", "dtype": "float64"},
            {"name": "segment", "dtype": "string"},
            {"name": "active", "dtype": "bool"}
        ],
        "source": {"table_name": "visits", "schema": "gold"}
    });
    let (status, body) = app.post("/feast/features", view).await;
    assert_eq!(status, 201, "{body}");
}

#[tokio::test]
async fn statistics_tell_rows_nulls_ranges_and_spread() {
    let app = App::sqlite().await;
    visits(&app).await;
    let (status, stats) = app.get("/feast/features/visits/stats?bins=3").await;
    assert_eq!(status, 200, "{stats}");
    assert_eq!(stats["row_count"], 4);
    assert_eq!(stats["rows_without_key"], 1);
    assert_eq!(stats["last_event"], "2025-11-04T00:00:00Z");
    assert!(stats["freshness_seconds"].as_f64().unwrap() > 0.0);
    let feature = |index: usize| &stats["features"][index];
    let visits = feature(0);
    assert_eq!(visits["null_rate"], 0.25);
    assert_eq!((&visits["min"], &visits["max"]), (&json!(3), &json!(9)));
    assert_eq!(visits["histogram"]["edges"], json!([3.0, 5.0, 7.0, 9.0]));
    assert_eq!(visits["histogram"]["counts"], json!([1, 1, 1]));
    assert_eq!(feature(1)["mean"], 1.5);
    let top = json!([{"value": "gold", "count": 2}, {"value": "new", "count": 1}]);
    assert_eq!(feature(2)["top_values"], top);
    assert_eq!(feature(2)["distinct"], 2);
    assert_eq!(
        feature(3)["top_values"][0],
        json!({"value": "true", "count": 3})
    );
}

#[tokio::test]
async fn an_older_snapshot_and_an_empty_span_have_statistics_too() {
    let app = App::sqlite().await;
    visits(&app).await;
    let (_, before) = app.get("/feast/features/visits/stats").await;
    app.import("visits", VISITS).await;
    let (_, after) = app.get("/feast/features/visits/stats").await;
    assert_eq!(after["row_count"], 8);
    let path = format!(
        "/feast/features/visits/stats?snapshot_id={}",
        before["snapshot_id"]
    );
    let (status, again) = app.get(&path).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(again["features"], before["features"]);
    for (path, expected) in [
        ("/feast/features/nothing/stats", 404),
        ("/feast/features/visits/stats?bins=0", 422),
        ("/feast/features/visits/materializations?limit=0", 422),
        ("/feast/features/nothing/materializations", 404),
        ("/feast/features/nothing/usage", 404),
    ] {
        let (status, body) = app.get(path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_is_refused() {
    let app = App::sqlite().await;
    visits(&app).await;
    let (status, body) = app.get("/feast/features/visits/stats?snapshot_id=1").await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["message"].as_str().unwrap().contains("no snapshot 1"),
        "{body}"
    );
}

#[tokio::test]
async fn loads_are_listed_and_so_are_the_jobs_that_read_a_view() {
    for app in App::both().await {
        app.customers().await;
        // The values hold for a year only: the load is one of that time.
        let load = json!({"feature_views": ["customer_features"], "end_ts": "2025-11-03"});
        for _ in 0..2 {
            let (status, body) = app
                .post("/feast/materialize-incremental", load.clone())
                .await;
            assert_eq!(status, 200, "{body}");
        }
        let path = "/feast/features/customer_features/materializations";
        let (_, body) = app.get(path).await;
        let modes: Vec<&str> = body["materializations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|load| load["mode"].as_str().unwrap())
            .collect();
        assert_eq!(modes, ["nothing", "full"], "{}", app.database);
        assert_eq!(body["materializations"][1]["entities_written"], 2);
        let read = json!({
            "features": ["customer_features:total_orders"],
            "entities": {"customer_id": [1], "event_timestamp": ["2025-11-03"]}
        });
        // Whoever is no job leaves no trace.
        app.post("/feast/historical", read.clone()).await;
        let job = app.as_caller(Identity::Job {
            job_id: "j1".to_owned(),
        });
        for _ in 0..2 {
            let status = job.post("/feast/historical", &read).await;
            assert_eq!(status, 200);
        }
        let (_, usage) = app.get("/feast/features/customer_features/usage").await;
        let jobs = usage["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{usage}");
        assert_eq!(jobs[0]["job_id"], "j1");
        assert_eq!(jobs[0]["model_name"], "model of j1");
        assert!(jobs[0]["snapshot_id"].is_i64());
    }
}

#[tokio::test]
async fn models_that_ask_for_features_of_a_view_are_listed() {
    for app in App::both().await {
        app.customers().await;
        let views = || vec!["customer_features".to_owned()];
        for (version, now) in [(1, 1_000), (2, 2_000), (1, 3_000)] {
            let model = ("churn".to_owned(), version);
            app.store.note_model_use("default", views(), &model, now);
        }
        // They are written beside the requests.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let usage = loop {
            let (status, usage) = app.get("/feast/features/customer_features/usage").await;
            assert_eq!(status, 200, "{usage}");
            if usage["models"].as_array().unwrap().len() == 2 {
                break usage;
            }
            assert!(std::time::Instant::now() < end, "{usage}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        // The third is the first again, within a minute.
        let versions: Vec<&str> = usage["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|used| used["model_version"].as_str().unwrap())
            .collect();
        assert_eq!(versions, ["2", "1"], "{} {usage}", app.database);
        assert_eq!(usage["models"][1]["first_used_at"], "1970-01-01T00:00:01Z");
    }
}

#[tokio::test]
async fn a_load_whose_server_is_gone_is_marked_failed_with_the_fix() {
    let app = App::sqlite().await;
    app.customers().await;
    // What a server that was killed leaves behind.
    let sql = "INSERT INTO feature_loads (id, project, view, mode, end_us, rows_read,
            entities_written, started_at, duration_ms, lease_until)
         VALUES ('a', 'default', 'customer_features', 'running', 0, 0, 0, 0, 0, 9000000000000)";
    let mut tx = app.db.begin().await.unwrap();
    db::query(sql).execute(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let path = "/feast/features/customer_features/materializations";
    let (_, body) = app.get(path).await;
    assert_eq!(body["materializations"][0]["mode"], "running", "{body}");
    let app = app.restarted().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let working = tokio::spawn(app.store.clone().work(stop.clone()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let failed = loop {
        let (_, body) = app.get(path).await;
        let load = body["materializations"][0].clone();
        if load["mode"] != "running" {
            break load;
        }
        assert!(std::time::Instant::now() < end, "{body}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(failed["mode"], "failed");
    let why = failed["error"].as_str().unwrap();
    assert!(why.contains("POST /feast/materialize-incremental"), "{why}");
    stop.cancel();
    working.await.unwrap();
}

#[tokio::test]
async fn too_many_different_texts_to_count_are_said_to_be() {
    let app = App::sqlite().await;
    let rows = (0..1_500).map(|n| format!("{n},2025-11-01T00:00:00,word {n},{}\n", n % 2));
    let csv: String = std::iter::once("id,event_timestamp,word,side\n".to_owned())
        .chain(rows.map(|row| row.replace(",0\n", ",left\n").replace(",1\n", ",right\n")))
        .collect();
    let (status, body) = app.import("words", &csv).await;
    assert_eq!(status, 201, "{body}");
    let view = json!({
        "name": "words",
        "entities": ["id"],
        "features": [{"name": "word", "dtype": "string"}, {"name": "side", "dtype": "string"}],
        "source": {"catalog": "iceberg", "schema": "gold", "table_name": "words"}
    });
    let (status, body) = app.post("/feast/features", view).await;
    assert_eq!(status, 201, "{body}");
    let (_, stats) = app.get("/feast/features/words/stats").await;
    let [words, sides] = [&stats["features"][0], &stats["features"][1]];
    assert_eq!(
        (&words["top_values_partial"], &words["distinct"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(
        (&sides["top_values_partial"], &sides["distinct"]),
        (&json!(false), &json!(2))
    );
}
