//! What clients other than Python's send: R's (`httr`: query strings, numbers as text) and Java's
//! (protobuf's JSON: int64 as text, enums by name, repeated keys), and MLflow's page.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use web::Identity;

use crate::server::{Server, both};

async fn log_points(server: &Server, run_id: &str) {
    for (step, value) in [("1", "0.5"), ("2", "NaN"), ("3", "-Infinity")] {
        let metric = json!({
            "run_uuid": run_id, "run_id": run_id, "key": "loss", "value": value,
            "timestamp": "1700000000000", "step": step,
        });
        server.post("runs/log-metric", metric).await.ok();
    }
}

#[tokio::test]
async fn java_sends_64_bit_integers_as_text_and_enums_by_name() {
    for server in both().await {
        let run = json!({
            "experiment_id": "0", "user_id": "java", "start_time": "1700000000000",
            "tags": [{"key": "mlflow.source.type", "value": "LOCAL"}],
        });
        let run = server.post("runs/create", run).await.ok();
        let id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        assert_eq!(run["run"]["info"]["start_time"], 1_700_000_000_000_i64);
        log_points(&server, &id).await;
        let end = json!({
            "run_uuid": id, "run_id": id, "status": "FINISHED", "end_time": "1700000000001",
        });
        server.post("runs/update", end).await.ok();
        let path = format!("runs/get?run_uuid={id}&run_id={id}");
        let run = server.get(&path).await.ok();
        assert_eq!(run["run"]["info"]["status"], "FINISHED");
        assert_eq!(run["run"]["data"]["metrics"][0]["step"], 3);
        let search = json!({
            "experiment_ids": ["0"], "filter": "metrics.loss < 0", "run_view_type": "ACTIVE_ONLY",
            "max_results": "10", "order_by": ["attribute.start_time DESC"],
        });
        let found = server.post("runs/search", search).await.ok();
        assert_eq!(found["runs"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn r_asks_by_query_string_with_numbers_as_text_and_repeated_keys() {
    for server in both().await {
        let (a, b) = (server.run(None).await.run_id, server.run(None).await.run_id);
        log_points(&server, &a).await;
        log_points(&server, &b).await;
        let path = format!("metrics/get-history?run_id={a}&metric_key=loss&max_results=2");
        let history = server.get(&path).await.ok();
        assert_eq!(history["metrics"].as_array().unwrap().len(), 2);
        let path = format!(
            "metrics/get-history-bulk-interval?run_ids={a}&run_ids={b}&metric_key=loss&start_step=1&end_step=2&max_results=320"
        );
        let points = server.get(&path).await.ok();
        let steps: Vec<i64> = points["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["step"].as_i64().unwrap())
            .collect();
        assert_eq!(steps, [1, 2, 1, 2], "{}", server.name);
        let path = "experiments/search?max_results=5&view_type=ALL&filter=name+%3D+%27Default%27&order_by=name&order_by=experiment_id+DESC";
        let found = server.get(path).await.ok();
        assert_eq!(found["experiments"][0]["name"], "Default");
        let path = "experiments/get-by-name?experiment_name=Default";
        server.get(path).await.ok();
    }
}

#[tokio::test]
async fn datasets_are_found_also_by_the_misspelt_path() {
    for server in both().await {
        for prefix in ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/2.0mlflow"] {
            let request = Request::builder()
                .method(Method::POST)
                .uri(format!("{prefix}/experiments/search-datasets"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(json!({"experiment_ids": ["0"]}).to_string()));
            let answer = server.ask(Identity::Local, request.unwrap()).await;
            assert_eq!(answer.ok(), json!({}), "{prefix}");
        }
    }
}

#[tokio::test]
async fn the_page_uploads_a_file_to_a_run() {
    for server in both().await {
        let id = server.run(None).await.run_id;
        let send = async |query: String, body: Vec<u8>| {
            let path = format!("/ajax-api/2.0/mlflow/upload-artifact?{query}");
            server.send(Method::POST, &path, body).await
        };
        let query = format!("run_uuid={id}&path=a/b.txt");
        send(query.clone(), b"text".to_vec()).await.ok();
        let page = format!("/get-artifact?run_id={id}&path=a/b.txt");
        let file = server.send(Method::GET, &page, Body::empty()).await;
        assert_eq!(&file.body[..], b"text");
        let large = vec![0; 10 * 1024 * 1024 + 1];
        for (query, body, said) in [
            ("path=a".to_owned(), vec![1], "run_id or run_uuid"),
            (format!("run_id={id}"), vec![1], "must specify path"),
            (format!("run_id={id}&path=../x"), vec![1], "Invalid path"),
            (query.clone(), Vec::new(), "must specify data"),
            (query, large, "too large"),
        ] {
            let refused = send(query, body).await;
            assert_eq!(refused.error().0, 400);
            let message = refused.json()["message"].to_string();
            assert!(message.contains(said), "{message}");
        }
        let job = crate::server::job("another");
        let path = format!("/ajax-api/2.0/mlflow/upload-artifact?run_id={id}&path=c");
        let refused = server.send_as(job, Method::POST, &path, "x").await;
        assert_eq!(refused.error().0, 403);
    }
}

#[tokio::test]
async fn what_asgard_does_not_have_is_absent_as_mlflow_tells_it() {
    for server in both().await {
        let ask = async |path: &str| server.send(Method::GET, path, Body::empty()).await;
        let gateway = "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=api/2.0/endpoints/";
        assert_eq!(ask(gateway).await.ok(), json!({"endpoints": []}));
        let telemetry = ask("/ajax-api/3.0/mlflow/ui-telemetry").await.ok();
        assert_eq!(telemetry["disable_ui_telemetry"], Value::from(true));
        let user = ask("/ajax-api/2.0/mlflow/users/current").await.ok();
        assert_eq!(user, json!({}), "the page must see no user");
        for unknown in [
            "/api/2.0/mlflow/users/current",
            "/ajax-api/2.0/mlflow/users/list",
            "/ajax-api/3.0/mlflow/label-schemas",
            "/api/9.0/mlflow/runs/get",
            "/api/2.0/mlflow/runs",
        ] {
            let answer = ask(unknown).await.error();
            assert_eq!(answer, (404, "ENDPOINT_NOT_FOUND".to_owned()), "{unknown}");
        }
    }
}
