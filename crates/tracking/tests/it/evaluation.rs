//! Evaluation datasets with their records, scorers, and prompts that were tried.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use web::Identity;
use web::testing::{Answer, request};

use crate::server::{Server, both, job};

/// Sends a request to a route under `/api/3.0/mlflow`.
async fn ask(server: &Server, method: Method, path: &str, body: Value) -> Answer {
    ask_as(server, Identity::Local, method, path, body).await
}

async fn ask_as(
    server: &Server,
    caller: Identity,
    method: Method,
    path: &str,
    body: Value,
) -> Answer {
    let path = format!("/api/3.0/mlflow/{path}");
    if method == Method::GET {
        return server.send_as(caller, method, &path, Body::empty()).await;
    }
    server
        .ask(caller, request(method, &path, Some(&body)))
        .await
}

async fn dataset(server: &Server, body: Value) -> Value {
    let made = ask(server, Method::POST, "datasets/create", body)
        .await
        .ok();
    made["dataset"].clone()
}

async fn experiment(server: &Server, name: &str) -> String {
    let made = server
        .post("experiments/create", json!({"name": name}))
        .await
        .ok();
    made["experiment_id"].as_str().unwrap().to_owned()
}

fn id_of(dataset: &Value) -> &str {
    dataset["dataset_id"].as_str().unwrap()
}

#[tokio::test]
async fn an_evaluation_dataset_is_made_found_tagged_linked_and_deleted() {
    for server in both().await {
        let (one, two) = (
            experiment(&server, "one").await,
            experiment(&server, "two").await,
        );
        let tags = json!({"team": "ml", "mlflow.user": "ann"}).to_string();
        let body = json!({"name": "b", "experiment_ids": [one], "tags": tags});
        let made = dataset(&server, body).await;
        dataset(
            &server,
            json!({"name": "a", "tags": "{\"team\": \"data\"}"}),
        )
        .await;
        assert_eq!(made["experiment_ids"], json!([one]));
        assert_eq!(made["created_by"], "ann");
        let path = format!("datasets/{}", id_of(&made));
        let got =
            async || ask(&server, Method::GET, &path, Value::Null).await.ok()["dataset"].clone();
        assert_eq!(got().await, made);

        let names = async |search: Value| {
            let found = ask(&server, Method::POST, "datasets/search", search)
                .await
                .ok();
            let found = found["datasets"].as_array().cloned().unwrap_or_default();
            found
                .iter()
                .map(|d| d["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(json!({"order_by": ["name ASC"]})).await, ["a", "b"]);
        assert_eq!(names(json!({"experiment_ids": [one]})).await, ["b"]);
        assert_eq!(
            names(json!({"filter_string": "tags.team = 'data'"})).await,
            ["a"]
        );
        assert_eq!(
            names(json!({"filter_string": "name IN ('b', 'c') AND created_by LIKE 'an%'"})).await,
            ["b"]
        );
        assert_eq!(
            names(json!({"filter_string": "created_time > 0 AND name != 'b'"})).await,
            ["a"]
        );

        let set = json!({"tags": "{\"team\": \"x\", \"n\": 1, \"gone\": null}"});
        ask(&server, Method::PATCH, &format!("{path}/tags"), set)
            .await
            .ok();
        for _ in 0..2 {
            ask(
                &server,
                Method::DELETE,
                &format!("{path}/tags/n"),
                json!({}),
            )
            .await
            .ok();
            let experiments = json!({"experiment_ids": [two]});
            ask(
                &server,
                Method::POST,
                &format!("{path}/add-experiments"),
                experiments,
            )
            .await
            .ok();
        }
        let tags: Value = serde_json::from_str(got().await["tags"].as_str().unwrap()).unwrap();
        assert_eq!(tags, json!({"team": "x", "mlflow.user": "ann"}));
        assert_eq!(got().await["experiment_ids"], json!([one, two]));
        let experiments = json!({"experiment_ids": [one]});
        for _ in 0..2 {
            ask(
                &server,
                Method::POST,
                &format!("{path}/remove-experiments"),
                experiments.clone(),
            )
            .await
            .ok();
        }
        let left = ask(
            &server,
            Method::GET,
            &format!("{path}/experiment-ids"),
            Value::Null,
        )
        .await;
        assert_eq!(left.ok(), json!({"experiment_ids": [two]}));

        for _ in 0..2 {
            ask(&server, Method::DELETE, &path, json!({})).await.ok();
        }
        let gone = ask(&server, Method::GET, &path, Value::Null).await;
        assert_eq!(gone.error(), (404, "RESOURCE_DOES_NOT_EXIST".to_owned()));
    }
}

#[tokio::test]
async fn records_are_known_by_their_inputs_and_come_in_pages() {
    for server in both().await {
        let made = dataset(&server, json!({"name": "d"})).await;
        let path = format!("datasets/{}/records", id_of(&made));
        let upsert = async |records: Value| {
            let body = json!({"records": records.to_string()});
            ask(&server, Method::POST, &path, body).await.ok()
        };
        let first = json!([
            {"inputs": {"q": "one", "k": 1}, "outputs": "x", "expectations": {"a": 1}, "tags": {"t": "u"},
             "source": {"source_type": "trace", "source_data": {"trace_id": "tr-1"}}},
            {"inputs": {"q": "two"}},
            {"inputs": {"q": "two"}, "outputs": null, "expectations": {"b": 2}},
        ]);
        assert_eq!(
            upsert(first).await,
            json!({"inserted_count": 2, "updated_count": 1})
        );
        let again = json!([
            {"inputs": {"k": 1, "q": "one"}, "expectations": {"c": 3}, "tags": {"mlflow.user": "ann"}},
            {"inputs": {"q": "three"}},
        ]);
        assert_eq!(
            upsert(again).await,
            json!({"inserted_count": 1, "updated_count": 1})
        );

        let page = async |query: &str| {
            let path = format!("{path}?{query}");
            let mut answer = ask(&server, Method::GET, &path, Value::Null).await.ok();
            let records: Vec<Value> =
                serde_json::from_str(answer["records"].as_str().unwrap()).unwrap();
            (records, answer["next_page_token"].take())
        };
        let (records, next) = page("max_results=2").await;
        assert_eq!(records[0]["inputs"], json!({"q": "one", "k": 1}));
        assert_eq!(records[0]["outputs"], "x");
        assert_eq!(records[0]["expectations"], json!({"a": 1, "c": 3}));
        assert_eq!(records[0]["tags"], json!({"t": "u", "mlflow.user": "ann"}));
        assert_eq!(
            (&records[0]["source_id"], &records[0]["source_type"]),
            (&json!("tr-1"), &json!("TRACE"))
        );
        assert_eq!(records[1].get("outputs"), None);
        let (rest, end) = page(&format!(
            "page_token={}",
            next.as_str().unwrap().replace('=', "%3D")
        ))
        .await;
        assert_eq!((rest.len(), end), (1, Value::Null));
        assert_eq!(rest[0]["inputs"], json!({"q": "three"}));

        let changed = async || {
            ask(
                &server,
                Method::GET,
                &format!("datasets/{}", id_of(&made)),
                Value::Null,
            )
            .await
            .ok()["dataset"]
                .clone()
        };
        assert_eq!(changed().await["profile"], r#"{"num_records":3}"#);
        let schema: Value =
            serde_json::from_str(changed().await["schema"].as_str().unwrap()).unwrap();
        assert_eq!(schema["inputs"], json!({"q": "string", "k": "integer"}));
        let doomed = json!({"dataset_record_ids": [records[0]["dataset_record_id"], "dr-none"]});
        let deleted = ask(&server, Method::DELETE, &path, doomed).await.ok();
        assert_eq!(deleted, json!({"deleted_count": 1}));
        assert_eq!(changed().await["profile"], r#"{"num_records":2}"#);
        assert_eq!(page("").await.0.len(), 2);
    }
}

#[tokio::test]
async fn what_is_wrong_with_evaluation_data_is_said() {
    for server in both().await {
        let made = dataset(&server, json!({"name": "d"})).await;
        let path = format!("datasets/{}", id_of(&made));
        let (post, patch) = (Method::POST, Method::PATCH);
        for (method, path, body, status) in [
            (&post, "datasets/create", json!({}), 400),
            (
                &post,
                "datasets/create",
                json!({"name": "x", "tags": "[]"}),
                400,
            ),
            (
                &post,
                "datasets/create",
                json!({"name": "x", "experiment_ids": ["77"]}),
                404,
            ),
            (
                &post,
                "datasets/search",
                json!({"filter_string": "size > 3"}),
                400,
            ),
            (
                &post,
                "datasets/search",
                json!({"order_by": ["created_by"]}),
                400,
            ),
            (
                &post,
                &format!("{path}/records"),
                json!({"records": "{}"}),
                400,
            ),
            (
                &post,
                "datasets/d-none/records",
                json!({"records": "[]"}),
                404,
            ),
            (
                &post,
                "datasets/d-none/add-experiments",
                json!({"experiment_ids": ["0"]}),
                404,
            ),
            (
                &post,
                &format!("{path}/add-experiments"),
                json!({"experiment_ids": ["77"]}),
                404,
            ),
            (
                &patch,
                &format!("{path}/tags"),
                json!({"tags": "{\"asgard.x\": \"y\"}"}),
                400,
            ),
            (
                &post,
                "scorers/register",
                json!({"experiment_id": "0", "name": "s", "serialized_scorer": "x"}),
                400,
            ),
            (
                &post,
                "scorers/register",
                json!({"experiment_id": "77", "name": "s", "serialized_scorer": "{}"}),
                404,
            ),
        ] {
            let answer = ask(&server, method.clone(), path, body.clone()).await;
            assert_eq!(answer.error().0, status, "{path} {body}");
        }
    }
}

#[tokio::test]
async fn scorers_have_versions() {
    for server in both().await {
        let register = async |name: &str| {
            let body =
                json!({"experiment_id": "0", "name": name, "serialized_scorer": "{\"n\": 1}"});
            ask(&server, Method::POST, "scorers/register", body)
                .await
                .ok()
        };
        let first = register("s").await;
        assert_eq!(
            (&first["version"], &first["experiment_id"]),
            (&json!(1), &json!("0"))
        );
        assert_eq!(register("s").await["version"], 2);
        register("r").await;
        let list = async |path: &str| {
            let found = ask(&server, Method::GET, path, Value::Null).await.ok();
            let found = found["scorers"].as_array().cloned().unwrap_or_default();
            found
                .iter()
                .map(|s| {
                    format!(
                        "{} {}",
                        s["scorer_name"].as_str().unwrap(),
                        s["scorer_version"]
                    )
                })
                .collect::<Vec<_>>()
        };
        for all in [
            "scorers/list",
            "scorers/list?experiment_id=0",
            "scorers/list?experiment_ids=0&experiment_ids=9",
        ] {
            assert_eq!(list(all).await, ["r 1", "s 2"], "{all}");
        }
        assert_eq!(
            list("scorers/versions?experiment_id=0&name=s").await,
            ["s 1", "s 2"]
        );
        let get = async |version: &str| {
            let path = format!("scorers/get?experiment_id=0&name=s{version}");
            ask(&server, Method::GET, &path, Value::Null).await
        };
        assert_eq!(get("").await.ok()["scorer"]["scorer_version"], 2);
        assert_eq!(
            get("&version=1").await.ok()["scorer"]["scorer_id"],
            first["scorer_id"]
        );
        assert_eq!(get("&version=3").await.error().0, 404);
        let delete = async |body: Value| ask(&server, Method::DELETE, "scorers/delete", body).await;
        delete(json!({"experiment_id": "0", "name": "s", "version": 1}))
            .await
            .ok();
        delete(json!({"experiment_id": "0", "name": "s"}))
            .await
            .ok();
        assert_eq!(
            delete(json!({"experiment_id": "0", "name": "s"}))
                .await
                .error()
                .0,
            404
        );
        assert_eq!(list("scorers/list").await, ["r 1"]);
    }
}

#[tokio::test]
async fn a_job_changes_only_its_own_evaluation_datasets_and_scorers() {
    for server in both().await {
        let made = dataset(&server, json!({"name": "d"})).await;
        let path = format!("datasets/{}", id_of(&made));
        let records = json!({"records": "[{\"inputs\": {}}]"});
        let scorer = json!({"experiment_id": "0", "name": "s", "serialized_scorer": "{}"});
        ask(&server, Method::POST, "scorers/register", scorer.clone())
            .await
            .ok();
        for (method, path, body) in [
            (Method::POST, format!("{path}/records"), records.clone()),
            (Method::PATCH, format!("{path}/tags"), json!({"tags": "{}"})),
            (Method::DELETE, path, json!({})),
            (Method::POST, "scorers/register".to_owned(), scorer),
            (
                Method::DELETE,
                "scorers/delete".to_owned(),
                json!({"experiment_id": "0", "name": "s"}),
            ),
        ] {
            let answer = ask_as(&server, job("j1"), method, &path, body).await;
            assert_eq!(answer.error().0, 403, "{path}");
        }
        let own = ask_as(
            &server,
            job("j1"),
            Method::POST,
            "datasets/create",
            json!({"name": "own"}),
        )
        .await
        .ok();
        let path = format!("datasets/{}/records", id_of(&own["dataset"]));
        ask_as(&server, job("j1"), Method::POST, &path, records.clone())
            .await
            .ok();
        assert_eq!(
            ask_as(&server, job("j2"), Method::POST, &path, records)
                .await
                .error()
                .0,
            403
        );
    }
}

#[tokio::test]
async fn a_prompt_that_was_tried_is_a_finished_run_with_its_table() {
    for server in both().await {
        let path = "/ajax-api/2.0/mlflow/runs/create-promptlab-run";
        let body = json!({
            "experiment_id": "0", "run_name": "tried", "prompt_template": "say {{ what }}",
            "prompt_parameters": [{"key": "what", "value": "hi"}], "model_route": "route",
            "model_parameters": [{"key": "temperature", "value": 0.1}], "model_input": "say hi",
            "model_output": "hi", "model_output_parameters": [{"key": "latency", "value": 100}],
            "mlflow_version": "3.18.0", "start_time": 456,
        });
        let made = server
            .ask(Identity::Local, request(Method::POST, path, Some(&body)))
            .await
            .ok();
        let info = &made["run"]["info"];
        assert_eq!(
            (&info["run_name"], &info["status"]),
            (&json!("tried"), &json!("FINISHED"))
        );
        let params = made["run"]["data"]["params"].as_array().unwrap();
        assert!(
            params.contains(&json!({"key": "temperature", "value": "0.1"})),
            "{params:?}"
        );
        let id = info["run_id"].as_str().unwrap();
        let file = format!("/get-artifact?run_id={id}&path=eval_results_table.json");
        let table = server.send(Method::GET, &file, Body::empty()).await.json();
        assert_eq!(
            table,
            json!({"columns": ["what", "prompt", "output", "latency"], "data": [["hi", "say hi", "hi", "100"]]})
        );
        let mut wrong = body;
        wrong["model_route"] = json!("");
        let refused = server
            .ask(Identity::Local, request(Method::POST, path, Some(&wrong)))
            .await;
        assert_eq!(
            refused.json()["message"],
            "CreatePromptlabRun request must specify model_route."
        );
    }
}
