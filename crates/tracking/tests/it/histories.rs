//! Histories of metrics.

use serde_json::{Value, json};

use crate::server::{Server, both};

async fn log(server: &Server, run_id: &str, points: &[(f64, i64, i64)]) {
    for points in points.chunks(1_000) {
        let metrics: Vec<Value> = points
            .iter()
            .map(|(value, timestamp, step)| json!({"key": "m", "value": value, "timestamp": timestamp, "step": step}))
            .collect();
        server
            .post(
                "runs/log-batch",
                json!({"run_id": run_id, "metrics": metrics}),
            )
            .await
            .ok();
    }
}

fn steps(answer: &Value) -> Vec<i64> {
    let points = answer["metrics"].as_array().cloned().unwrap_or_default();
    points.iter().map(|p| p["step"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_history_is_in_the_order_of_time_step_and_value() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        log(
            &server,
            &id,
            &[
                (1.0, 20, 0),
                (3.0, 10, 2),
                (2.0, 10, 1),
                (1.5, 10, 1),
                (1.5, 10, 1),
            ],
        )
        .await;
        let history = server
            .get(&format!("metrics/get-history?run_id={id}&metric_key=m"))
            .await
            .ok();
        let values: Vec<f64> = history["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["value"].as_f64().unwrap())
            .collect();
        assert_eq!(values, [1.5, 2.0, 3.0, 1.0], "{}", server.name);
        assert_eq!(
            history["metrics"][0],
            json!({"key": "m", "value": 1.5, "timestamp": 10, "step": 1})
        );
        for nothing in [
            "run_id=x&metric_key=m",
            &format!("run_id={id}&metric_key=other"),
        ] {
            assert_eq!(
                server
                    .get(&format!("metrics/get-history?{nothing}"))
                    .await
                    .ok(),
                json!({})
            );
        }
        assert_eq!(
            server
                .get(&format!("metrics/get-history?run_id={id}"))
                .await
                .error()
                .0,
            400
        );
    }
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let points: Vec<_> = (0..7).map(|i| (0.5, i, i)).collect();
        log(&server, &id, &points).await;
        let path = format!("metrics/get-history?run_id={id}&metric_key=m&max_results=3");
        let mut token = String::new();
        let mut pages = Vec::new();
        loop {
            let page = server.get(&format!("{path}&page_token={token}")).await.ok();
            pages.push(steps(&page));
            match page["next_page_token"].as_str() {
                Some(next) => token = next.replace('=', "%3D"),
                None => break,
            }
        }
        assert_eq!(pages, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!(
            server.get(&format!("{path}&page_token=x")).await.error().0,
            400
        );
        assert_eq!(
            server.get(&format!("{path}&max_results=0")).await.error().0,
            400
        );
        let zero = format!("metrics/get-history?run_id={id}&metric_key=m&max_results=0");
        assert_eq!(server.get(&zero).await.error().0, 400);
    }
}

#[tokio::test]
async fn histories_of_many_runs_name_their_run() {
    for server in both().await {
        let (a, b) = (server.run(None).await.run_id, server.run(None).await.run_id);
        log(&server, &a, &[(1.0, 1, 1), (2.0, 2, 2)]).await;
        log(&server, &b, &[(3.0, 1, 1)]).await;
        let path = format!("metrics/get-history-bulk?run_id={a}&run_id={b}&metric_key=m");
        let all = server.get(&path).await.ok();
        assert_eq!(all["metrics"].as_array().unwrap().len(), 3);
        assert!(
            all["metrics"]
                .as_array()
                .unwrap()
                .iter()
                .any(|p| p["run_id"] == json!(b))
        );
        let two = server.get(&format!("{path}&max_results=2")).await.ok();
        assert_eq!(two["metrics"].as_array().unwrap().len(), 2);
        assert_eq!(
            server
                .get("metrics/get-history-bulk?metric_key=m")
                .await
                .error()
                .0,
            400
        );
        let many: String = (0..101).map(|i| format!("run_id={i}&")).collect();
        assert_eq!(
            server
                .get(&format!("metrics/get-history-bulk?{many}metric_key=m"))
                .await
                .error()
                .0,
            400
        );
    }
}

#[tokio::test]
async fn a_chart_gets_evenly_chosen_points_and_the_ends_of_each_run() {
    for server in both().await {
        let (a, b) = (server.run(None).await.run_id, server.run(None).await.run_id);
        let points: Vec<_> = (0..1_000).map(|i| (0.5, i, i)).collect();
        log(&server, &a, &points).await;
        log(&server, &b, &[(0.1, 1, 7), (0.1, 1, 333)]).await;
        let path = format!(
            "metrics/get-history-bulk-interval?run_ids={a}&run_ids={b}&run_ids=x&metric_key=m"
        );
        let sampled = server.get(&format!("{path}&max_results=10")).await.ok();
        assert_eq!(
            steps(&sampled),
            [0, 100, 200, 300, 400, 500, 600, 700, 800, 999, 7, 333]
        );
        let within = server
            .get(&format!("{path}&start_step=5&end_step=8"))
            .await
            .ok();
        assert_eq!(steps(&within), [5, 6, 7, 8, 7]);
        // Who never tells a step has all points at the same.
        let c = server.run(None).await.run_id;
        let points: Vec<_> = (0..100).map(|i| (f64::from(i), i64::from(i), 0)).collect();
        log(&server, &c, &points).await;
        let path =
            format!("metrics/get-history-bulk-interval?run_ids={c}&metric_key=m&max_results=3");
        let values = server.get(&path).await.ok();
        let values = values["metrics"].as_array().unwrap().iter();
        let values: Vec<_> = values
            .map(|point| point["value"].as_f64().unwrap())
            .collect();
        assert_eq!(values, [0.0, 34.0, 99.0], "{}", server.name);
        for wrong in [
            "start_step=5",
            "start_step=8&end_step=5",
            "max_results=0",
            "max_results=2501",
        ] {
            assert_eq!(
                server.get(&format!("{path}&{wrong}")).await.error().0,
                400,
                "{wrong}"
            );
        }
        assert_eq!(
            server
                .get("metrics/get-history-bulk-interval?metric_key=m")
                .await
                .error()
                .0,
            400
        );
    }
}
