//! Searches among so many runs that an index leads to them, and histories too long to be held.

use serde_json::{Value, json};

use crate::server::{Server, both};

/// More than are looked at one by one (`FEW`).
const RUNS: i64 = 1_060;

/// What run `index` logged as `m`: all different, NaN for some, nothing for others.
fn value(index: i64) -> Option<f64> {
    match index % 20 {
        3 => Some(f64::NAN),
        7 => None,
        _ => Some((index * 577 % RUNS) as f64 - 500.0),
    }
}

/// Every second run has ended; ten have the param `few` and the tag `few`.
async fn seed(server: &Server) {
    for index in 0..RUNS {
        let run = json!({"experiment_id": "0", "run_name": index.to_string(), "start_time": index});
        let made = server.post("runs/create", run).await.ok();
        let id = &made["run"]["info"]["run_id"];
        let value = value(index).map(|v| if v.is_nan() { json!("NaN") } else { json!(v) });
        let metrics: Vec<Value> = value
            .map(|value| json!({"key": "m", "value": value, "timestamp": 1}))
            .into_iter()
            .collect();
        let kind = if index % 106 == 0 { "few" } else { "many" };
        let pair = json!([{"key": "kind", "value": kind}]);
        let batch = json!({"run_id": id, "metrics": metrics, "params": pair, "tags": pair});
        server.post("runs/log-batch", batch).await.ok();
        if index % 2 == 0 {
            let ended = json!({"run_id": id, "status": "FINISHED", "end_time": index});
            server.post("runs/update", ended).await.ok();
        }
    }
}

/// The numbers of the runs that a search finds, over all its pages.
async fn found(server: &Server, mut search: Value) -> Vec<i64> {
    search["experiment_ids"] = json!(["0"]);
    let mut numbers = Vec::new();
    loop {
        let page = server.post("runs/search", search.clone()).await.ok();
        for run in page["runs"].as_array().into_iter().flatten() {
            let name = run["info"]["run_name"].as_str().unwrap();
            numbers.push(name.parse().unwrap());
        }
        match page.get("next_page_token") {
            Some(token) => search["page_token"] = token.clone(),
            None => return numbers,
        }
    }
}

/// The numbers of the runs that fulfil a condition, newest first.
fn newest_first(fulfils: impl Fn(i64) -> bool) -> Vec<i64> {
    (0..RUNS).rev().filter(|index| fulfils(*index)).collect()
}

/// All runs by value, then those with NaN, then those without.
fn by_value(descending: bool) -> Vec<i64> {
    let mut all = newest_first(|_| true);
    let rank = |index: &i64| match value(*index) {
        None => (2, 0.0),
        Some(v) if v.is_nan() => (1, 0.0),
        Some(v) => (0, if descending { -v } else { v }),
    };
    all.sort_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap());
    all
}

#[tokio::test]
async fn searches_among_many_runs_find_what_searches_among_few_would() {
    for server in both().await {
        seed(&server).await;
        check_searches(&server).await;
        // Beside them the order of the metric leads past another experiment's runs.
        let other = server.tracking.ensure_experiment("other").await.unwrap();
        server.crowd(&other.experiment_id, "m", -1e6).await;
        check_searches(&server).await;
    }
}

async fn check_searches(server: &Server) {
    for descending in [true, false] {
        let order = if descending { "DESC" } else { "ASC" };
        let search = json!({"order_by": [format!("metrics.m {order}")], "max_results": 300});
        assert_eq!(
            found(server, search).await,
            by_value(descending),
            "{}",
            server.name
        );
    }
    for (filter, fulfils) in [
        (
            "metrics.m > 530",
            &(|i| value(i).is_some_and(|v| v > 530.0)) as &dyn Fn(i64) -> bool,
        ),
        ("metrics.m <= 500", &|i| {
            value(i).is_some_and(|v| v <= 500.0)
        }),
        ("metrics.m = 0", &|i| value(i) == Some(0.0)),
        ("metrics.m != 0", &|i| value(i).is_some_and(|v| v != 0.0)),
        ("params.kind = 'few'", &|i| i % 106 == 0),
        ("tags.kind = 'few' AND metrics.m > 0", &|i| {
            i % 106 == 0 && value(i).is_some_and(|v| v > 0.0)
        }),
        ("params.kind = 'many' AND metrics.m < -450", &|i| {
            i % 106 != 0 && value(i).is_some_and(|v| v < -450.0)
        }),
    ] {
        let search = json!({"filter": filter, "max_results": 400});
        let expected = newest_first(fulfils);
        assert_eq!(
            found(server, search.clone()).await,
            expected,
            "{filter}, {}",
            server.name
        );
        let mut ranked = search;
        ranked["order_by"] = json!(["metrics.m"]);
        let mut expected_ranked = by_value(false);
        expected_ranked.retain(|index| fulfils(*index));
        assert_eq!(
            found(server, ranked).await,
            expected_ranked,
            "{filter}, {}",
            server.name
        );
    }
}

#[tokio::test]
async fn what_is_logged_to_a_run_that_ended_is_found() {
    for server in both().await {
        seed(&server).await;
        let few = json!({"experiment_ids": ["0"], "filter": "tags.kind = 'few'", "max_results": 1});
        let answer = server.post("runs/search", few).await.ok();
        let info = &answer["runs"][0]["info"];
        assert_eq!(info["status"], "FINISHED");
        let metrics = json!([
            {"key": "m", "value": 1e9, "timestamp": 2, "step": 9},
            {"key": "later", "value": 1, "timestamp": 2},
        ]);
        let batch = json!({"run_id": info["run_id"], "metrics": metrics});
        server.post("runs/log-batch", batch).await.ok();
        let number: i64 = info["run_name"].as_str().unwrap().parse().unwrap();
        for search in [
            json!({"filter": "metrics.m > 1e8"}),
            json!({"filter": "metrics.later = 1"}),
        ] {
            assert_eq!(found(&server, search).await, [number], "{}", server.name);
        }
        let best =
            json!({"experiment_ids": ["0"], "order_by": ["metrics.m DESC"], "max_results": 1});
        let best = server.post("runs/search", best).await.ok();
        assert_eq!(best["runs"][0]["info"]["run_id"], info["run_id"]);
    }
}

#[tokio::test]
async fn a_long_history_comes_whole_and_its_pages_meet() {
    const POINTS: i64 = 25_003;
    for server in both().await {
        let id = server.run(None).await.run_id;
        for begin in (0..POINTS).step_by(1_000) {
            let steps = begin..POINTS.min(begin + 1_000);
            let points: Vec<Value> = steps
                .map(|step| json!({"key": "m", "value": 0.5, "timestamp": step / 7, "step": step}))
                .collect();
            let batch = json!({"run_id": id, "metrics": points});
            server.post("runs/log-batch", batch).await.ok();
        }
        let path = format!("metrics/get-history?run_id={id}&metric_key=m");
        let whole = server.get(&path).await.ok();
        assert_eq!(
            steps(&whole),
            (0..POINTS).collect::<Vec<_>>(),
            "{}",
            server.name
        );
        assert!(whole.get("next_page_token").is_none());
        let mut pages = Vec::new();
        let mut token = String::new();
        loop {
            let page = format!("{path}&max_results=12000&page_token={token}");
            let page = server.get(&page).await.ok();
            pages.extend(steps(&page));
            match page["next_page_token"].as_str() {
                Some(next) => token = next.replace('+', "%2B").replace('=', "%3D"),
                None => break,
            }
        }
        assert_eq!(pages, (0..POINTS).collect::<Vec<_>>(), "{}", server.name);
    }
}

fn steps(answer: &Value) -> Vec<i64> {
    let points = answer["metrics"].as_array().unwrap().iter();
    points
        .map(|point| point["step"].as_i64().unwrap())
        .collect()
}
