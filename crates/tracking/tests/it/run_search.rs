//! Searches for runs.

use serde_json::{Value, json};

use crate::server::{Server, both};

/// Runs r0 to r5: metric `m` of r0..r2 is 0, 1, 2, of r3 NaN, of r4 infinite, r5 has none.
async fn seed(server: &Server) {
    for index in 0..6_i64 {
        let run = json!({"experiment_id": "0", "run_name": format!("r{index}"), "start_time": index, "user_id": "U"});
        let made = server.post("runs/create", run).await.ok();
        let id = made["run"]["info"]["run_id"].clone();
        let value = [
            json!(0),
            json!(1),
            json!(2),
            json!("NaN"),
            json!("Infinity"),
        ];
        let metrics: Vec<Value> = value
            .get(usize::try_from(index).unwrap())
            .map(|value| json!({"key": "m", "value": value, "timestamp": 1}))
            .into_iter()
            .collect();
        let params = if index < 3 {
            json!([{"key": "p", "value": format!("V{index}_x")}, {"key": "a b", "value": "y"}])
        } else {
            json!([])
        };
        let tags = json!([{"key": "t.u", "value": if index % 2 == 0 { "even" } else { "odd" }}]);
        let batch = json!({"run_id": id, "metrics": metrics, "params": params, "tags": tags});
        server.post("runs/log-batch", batch).await.ok();
    }
}

async fn found(server: &Server, mut search: Value) -> Vec<String> {
    if search.get("experiment_ids").is_none() {
        search["experiment_ids"] = json!(["0"]);
    }
    let found = server.post("runs/search", search).await.ok();
    let runs = found["runs"].as_array().cloned().unwrap_or_default();
    let names = runs
        .iter()
        .map(|run| run["info"]["run_name"].as_str().unwrap().to_owned());
    names.collect()
}

async fn filtered(server: &Server, filter: &str) -> String {
    found(
        server,
        json!({"filter": filter, "order_by": ["start_time"]}),
    )
    .await
    .concat()
}

#[tokio::test]
async fn filters_choose_runs() {
    for server in both().await {
        seed(&server).await;
        let ids = server
            .post(
                "runs/search",
                json!({"experiment_ids": ["0"], "order_by": ["start_time"]}),
            )
            .await
            .ok();
        let id = |index: usize| {
            ids["runs"][index]["info"]["run_id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let one_of = format!("run_id IN ('{}', '{}')", id(1), id(4));
        let none_of = format!("attributes.run_id NOT IN ('{}','{}')", id(1), id(4));
        for (filter, expected) in [
            ("", "r0r1r2r3r4r5"),
            ("metrics.m > 0", "r1r2r4"),
            ("metrics.m = 0", "r0"),
            ("metrics.m >= 1 AND metrics.m < 2.5", "r1r2"),
            ("metrics.m != 1", "r0r2r3r4"),
            ("metrics.m < 1e308", "r0r1r2"),
            ("params.p = 'V1_x'", "r1"),
            ("params.p != 'V1_x'", "r0r2"),
            ("params.p LIKE 'v%'", ""),
            ("params.p LIKE 'V%'", "r0r1r2"),
            ("params.p ILIKE 'v1%'", "r1"),
            ("params.p LIKE 'V_\\_x'", ""),
            ("params.p IS NULL", "r3r4r5"),
            ("params.p IS NOT NULL AND metrics.m > 0", "r1r2"),
            ("params.`a b` = 'y' AND params.\"a b\" != 'z'", "r0r1r2"),
            ("tags.t.u = 'odd'", "r1r3r5"),
            ("tags.`t.u` != \"odd\"", "r0r2r4"),
            ("tags.mlflow.runName = 'r2'", "r2"),
            (
                "tags.nothing IS NULL AND status = 'RUNNING'",
                "r0r1r2r3r4r5",
            ),
            ("status = 'running'", ""),
            ("attributes.start_time >= 4", "r4r5"),
            ("end_time > 0", ""),
            (
                "\"Run Name\" LIKE 'r%' AND user_id = 'U' AND created < 2",
                "r0r1",
            ),
            (&one_of, "r1r4"),
            (&none_of, "r0r2r3r5"),
            (
                "artifact_uri LIKE 'mlflow-artifacts:/0/%' AND run_name = 'r3' AND",
                "r3",
            ),
        ] {
            assert_eq!(
                filtered(&server, filter).await,
                expected,
                "{} {filter}",
                server.name
            );
        }
    }
}

#[tokio::test]
async fn wrong_filters_are_the_callers_mistake() {
    for server in both().await {
        let long = vec!["metrics.a > 1"; 2_000].join(" AND ");
        for filter in [
            "metrics.m > 0 OR metrics.m < 0",
            "NOT metrics.m > 0",
            "(metrics.m > 0)",
            "metrics.m BETWEEN 1 AND 2",
            "metrics.m > '1'",
            "params.p > 'a'",
            "status IS NULL",
            "experiment_id = '0'",
            "nothing = 'x'",
            "params.p = 'x",
            "'; DROP TABLE runs; --",
            &long,
        ] {
            let body = json!({"experiment_ids": ["0"], "filter": filter});
            let refused = server.post("runs/search", body).await;
            assert_eq!(
                refused.error(),
                (400, "INVALID_PARAMETER_VALUE".to_owned()),
                "{filter}"
            );
        }
    }
}

#[tokio::test]
async fn orders_put_values_first_then_nan_then_nothing() {
    for server in both().await {
        seed(&server).await;
        for (order, expected) in [
            (json!([]), "r5r4r3r2r1r0"),
            (json!(["metrics.m"]), "r0r1r2r4r3r5"),
            (json!(["metrics.m ASC"]), "r0r1r2r4r3r5"),
            (json!(["metrics.m DESC"]), "r4r2r1r0r3r5"),
            (json!(["params.p DESC"]), "r2r1r0r5r4r3"),
            (
                json!(["tags.`t.u` ASC", "attributes.start_time ASC"]),
                "r0r2r4r1r3r5",
            ),
            (json!(["run_name DESC"]), "r5r4r3r2r1r0"),
            (json!(["end_time", "Created"]), "r0r1r2r3r4r5"),
            (
                json!([
                    "lifecycle_stage",
                    "experiment_id",
                    "status",
                    "start_time desc"
                ]),
                "r5r4r3r2r1r0",
            ),
        ] {
            let names = found(&server, json!({"order_by": order})).await;
            assert_eq!(names.concat(), expected, "{} {order}", server.name);
        }
        for wrong in [
            "metrics.m, params.p",
            "metrics.m UP",
            "nothing",
            "",
            "metrics.m DESC; --",
        ] {
            let body = json!({"experiment_ids": ["0"], "order_by": [wrong]});
            assert_eq!(
                server.post("runs/search", body).await.error().0,
                400,
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn pages_follow_one_another() {
    for server in both().await {
        seed(&server).await;
        let mut search =
            json!({"experiment_ids": ["0"], "max_results": 4, "order_by": ["metrics.m DESC"]});
        let mut names = String::new();
        loop {
            let page = server.post("runs/search", search.clone()).await.ok();
            for run in page["runs"].as_array().unwrap() {
                names += run["info"]["run_name"].as_str().unwrap();
            }
            match page.get("next_page_token") {
                Some(token) => search["page_token"] = token.clone(),
                None => break,
            }
        }
        assert_eq!(names, "r4r2r1r0r3r5");
        for wrong in [
            json!({"page_token": "garbage"}),
            json!({"max_results": 0}),
            json!({"max_results": 50_001}),
        ] {
            assert_eq!(
                server.post("runs/search", wrong.clone()).await.error().0,
                400,
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn views_and_experiments_bound_a_search() {
    for server in both().await {
        seed(&server).await;
        let other = server
            .tracking
            .ensure_experiment("other")
            .await
            .unwrap()
            .experiment_id;
        server
            .post(
                "runs/create",
                json!({"experiment_id": other, "run_name": "o", "start_time": 9}),
            )
            .await
            .ok();
        let all = server
            .post(
                "runs/search",
                json!({"experiment_ids": ["0"], "filter": "run_name = 'r0'"}),
            )
            .await
            .ok();
        let id = all["runs"][0]["info"]["run_id"].clone();
        server.post("runs/delete", json!({"run_id": id})).await.ok();
        for (search, expected) in [
            (json!({"run_view_type": "ACTIVE_ONLY"}), "r5r4r3r2r1"),
            (json!({"run_view_type": "DELETED_ONLY"}), "r0"),
            (json!({"run_view_type": 3}), "r5r4r3r2r1r0"),
            (json!({"run_view_type": "X"}), "r5r4r3r2r1"),
            (json!({"experiment_ids": [other]}), "o"),
            (json!({"experiment_ids": ["0", other]}), "or5r4r3r2r1"),
            (json!({"experiment_ids": []}), ""),
            (json!({"experiment_ids": ["77", "abc"]}), ""),
        ] {
            assert_eq!(
                found(&server, search.clone()).await.concat(),
                expected,
                "{search}"
            );
        }
        let empty = server
            .post("runs/search", json!({"experiment_ids": ["77"]}))
            .await
            .ok();
        assert_eq!(empty, json!({}));
    }
}

#[tokio::test]
async fn runs_are_found_by_their_datasets() {
    for server in both().await {
        let run = server.run(None).await;
        server.run(None).await;
        let input = json!({
            "tags": [{"key": "mlflow.data.context", "value": "train"}],
            "dataset": {"name": "iris", "digest": "d1", "source_type": "local", "source": "{}"},
        });
        server
            .post(
                "runs/log-inputs",
                json!({"run_id": run.run_id, "datasets": [input]}),
            )
            .await
            .ok();
        for (filter, count) in [
            ("dataset.name = 'iris'", 1),
            ("datasets.digest LIKE 'd%' AND dataset.context = 'train'", 1),
            ("dataset.name IN ('iris', 'x')", 1),
            ("dataset.context = 'test'", 0),
        ] {
            assert_eq!(
                found(&server, json!({"filter": filter})).await.len(),
                count,
                "{filter}"
            );
        }
    }
}
