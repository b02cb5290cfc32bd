//! The route by which MLflow's page keeps a prompt that was tried.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use web::{Caller, Permission, Routes};

use super::run_json::RunResponse;
use crate::Tracking;
use crate::error::Error;
use crate::prompt_run::PromptRun;
use crate::run::NewRun;
use crate::wire::{Int, KeyValue, List, MlflowRequest, MlflowResult, pairs};

/// The route, which MLflow has only for its page.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    if prefix != "/ajax-api" {
        return routes;
    }
    let path = "/ajax-api/2.0/mlflow/runs/create-promptlab-run";
    routes.post(path, Permission::WriteTracking, create)
}

#[derive(Deserialize)]
struct CreateRequest {
    experiment_id: Option<String>,
    run_name: Option<String>,
    #[serde(default)]
    tags: List<KeyValue>,
    prompt_template: Option<String>,
    #[serde(default)]
    prompt_parameters: List<Parameter>,
    model_route: Option<String>,
    #[serde(default)]
    model_parameters: List<Parameter>,
    model_input: Option<String>,
    model_output: Option<String>,
    #[serde(default)]
    model_output_parameters: List<Parameter>,
    mlflow_version: Option<String>,
    user_id: Option<String>,
    start_time: Option<Int>,
}

/// A key and a value of any type.
#[derive(Deserialize)]
struct Parameter {
    key: String,
    #[serde(default)]
    value: Value,
}

fn texts(list: List<Parameter>) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let list = list.0.into_iter();
    list.map(|parameter| (parameter.key, text(parameter.value)))
        .collect()
}

fn must(name: &str) -> Error {
    Error::Invalid(format!("CreatePromptlabRun request must specify {name}."))
}

fn text(value: Option<String>, name: &str) -> Result<String, Error> {
    value
        .filter(|text| !text.is_empty())
        .ok_or_else(|| must(name))
}

async fn create(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<CreateRequest>,
) -> MlflowResult<RunResponse> {
    let experiment_id = text(request.experiment_id, "experiment_id")?;
    let template = text(request.prompt_template, "prompt_template")?;
    let inputs = texts(request.prompt_parameters);
    if inputs.is_empty() {
        return Err(must("prompt_parameters").into());
    }
    let route = text(request.model_route, "model_route")?;
    let prompt = text(request.model_input, "model_input")?;
    text(request.mlflow_version, "mlflow_version")?;
    let run = NewRun {
        experiment_id,
        name: request.run_name,
        start_time: request.start_time.map(|time| time.0),
        user_id: request.user_id.unwrap_or_else(|| "unknown".to_owned()),
        tags: pairs(request.tags, "tags")?,
        job_id: caller.job_id().map(str::to_owned),
    };
    let made = tracking.create_prompt_run(PromptRun {
        run,
        template,
        inputs,
        route,
        parameters: texts(request.model_parameters),
        prompt,
        output: request.model_output,
        output_parameters: texts(request.model_output_parameters),
    });
    let run = made.await?.into();
    Ok(Json(RunResponse { run }))
}
