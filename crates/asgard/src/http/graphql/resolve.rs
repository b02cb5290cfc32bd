//! Answering the root fields of a GraphQL document by REST routes.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;
use web::Identity;

use super::document::Field;
use super::schema::{Kind, ROOT, kind};
use super::select::{select, snake_case};

/// The largest REST answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// How many runs' model versions one search asks for.
const RUNS_OF_A_SEARCH: usize = 100;

/// What is percent-encoded in a query string.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_');

/// Asks the REST routes as one caller.
pub(super) struct Resolver {
    rest: Router,
    caller: Identity,
}

impl Resolver {
    pub(super) fn new(rest: Router, caller: Identity) -> Self {
        Self { rest, caller }
    }

    /// The value of a checked root field.
    ///
    /// # Errors
    /// The message of the route that refused.
    pub(super) async fn resolve(&self, field: &Field) -> Result<Value, String> {
        let Some(Kind::One(of)) = kind(ROOT, &field.name) else {
            return Ok(Value::from(ROOT));
        };
        if field.name == "test" {
            let output = json!({ "output": field.arguments.get("inputString") });
            return Ok(select(of, &output, &field.fields));
        }
        let input = input(field);
        let mut answer = match field.name.as_str() {
            "mlflowGetExperiment" => self.get("experiments/get", &input).await,
            "mlflowGetMetricHistoryBulkInterval" => {
                self.get("metrics/get-history-bulk-interval", &input).await
            }
            "mlflowGetRun" => self.get("runs/get", &input).await,
            "mlflowListArtifacts" => self.get("artifacts/list", &input).await,
            "mlflowSearchModelVersions" => self.get("model-versions/search", &input).await,
            "mlflowSearchRuns" => self.post("runs/search", input).await,
            "mlflowSearchDatasets" => self.post("experiments/search-datasets", input).await,
            other => Err(format!("Cannot query field '{other}' on type '{ROOT}'.")),
        }?;
        self.add_links(&mut answer, &field.fields).await?;
        Ok(select(of, &answer, &field.fields))
    }

    /// Gives the runs of an answer their experiment and their model versions, where asked for.
    async fn add_links(&self, answer: &mut Value, fields: &[Field]) -> Result<(), String> {
        for field in fields {
            let runs = match field.name.as_str() {
                "run" => std::slice::from_mut(&mut answer["run"]),
                "runs" => match &mut answer["runs"] {
                    Value::Array(runs) => runs.as_mut_slice(),
                    _ => continue,
                },
                _ => continue,
            };
            let asked = |name: &str| field.fields.iter().any(|field| field.name == name);
            if asked("experiment") {
                self.add_experiments(runs).await?;
            }
            if asked("modelVersions") {
                self.add_versions(runs).await?;
            }
        }
        Ok(())
    }

    async fn add_experiments(&self, runs: &mut [Value]) -> Result<(), String> {
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        for run in runs {
            let id = text(&run["info"]["experiment_id"]);
            if !known.contains_key(&id) {
                let input = Map::from_iter([("experiment_id".to_owned(), Value::from(&*id))]);
                let mut answer = self.get("experiments/get", &input).await?;
                known.insert(id.clone(), answer["experiment"].take());
            }
            run["experiment"] = known[&id].clone();
        }
        Ok(())
    }

    async fn add_versions(&self, runs: &mut [Value]) -> Result<(), String> {
        for runs in runs.chunks_mut(RUNS_OF_A_SEARCH) {
            let ids = runs.iter().map(|run| text(&run["info"]["run_id"]));
            let ids: Vec<String> = ids.map(|id| format!("'{id}'")).collect();
            let filter = format!("run_id IN ({})", ids.join(","));
            let input = Map::from_iter([("filter".to_owned(), Value::from(filter))]);
            let mut answer = self.get("model-versions/search", &input).await?;
            let Value::Array(versions) = answer["model_versions"].take() else {
                continue;
            };
            for run in runs {
                let id = run["info"]["run_id"].clone();
                let of_run = versions.iter().filter(|version| version["run_id"] == id);
                run["model_versions"] = of_run.cloned().collect();
            }
        }
        Ok(())
    }

    async fn get(&self, route: &str, input: &Map<String, Value>) -> Result<Value, String> {
        let path = format!("/api/2.0/mlflow/{route}?{}", query_string(input));
        self.ask(Method::GET, &path, Body::empty()).await
    }

    async fn post(&self, route: &str, input: Map<String, Value>) -> Result<Value, String> {
        let path = format!("/api/2.0/mlflow/{route}");
        let body = Body::from(Value::Object(input).to_string());
        self.ask(Method::POST, &path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> Result<Value, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| format!("the input does not fit into a request: {error}"))?;
        request.extensions_mut().insert(self.caller.clone());
        let response = match self.rest.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let good = response.status().is_success();
        let body = to_bytes(response.into_body(), MAX_ANSWER)
            .await
            .map_err(|error| format!("the answer cannot be read: {error}"))?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| format!("the answer is not JSON: {error}"))?;
        if good {
            return Ok(answer);
        }
        Err(text(&answer["message"]))
    }
}

/// The argument `input`, with REST's names of its fields.
fn input(field: &Field) -> Map<String, Value> {
    let given = field.arguments.get("input").and_then(Value::as_object);
    let given = given.into_iter().flatten();
    given
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (snake_case(name), value.clone()))
        .collect()
}

fn query_string(input: &Map<String, Value>) -> String {
    let mut pairs = Vec::new();
    for (name, value) in input {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let name = utf8_percent_encode(name, ENCODED);
            let value = text(value);
            let value = utf8_percent_encode(&value, ENCODED);
            pairs.push(format!("{name}={value}"));
        }
    }
    pairs.join("&")
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
