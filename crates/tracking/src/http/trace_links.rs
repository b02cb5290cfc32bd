//! MLflow's routes that link traces to runs and prompts, and that compare what filters find.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Permission, Routes};

use crate::Tracking;
use crate::trace_correlation::Question;
use crate::wire::{Empty, List, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`. Links are at the same path in both versions.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let correlation = format!("{prefix}/3.0/mlflow/traces/calculate-filter-correlation");
    let routes = routes.post(&correlation, ReadTracking, correlate);
    ["2.0", "3.0"].into_iter().fold(routes, |routes, version| {
        let all = format!("{prefix}/{version}/mlflow/traces");
        routes
            .post(&format!("{all}/link-to-run"), WriteTracking, link_to_run)
            .post(&format!("{all}/link-prompts"), WriteTracking, link_prompts)
    })
}

#[derive(Deserialize)]
struct LinkToRunRequest {
    #[serde(default)]
    trace_ids: List<String>,
    run_id: Option<String>,
}

#[derive(Deserialize)]
struct LinkPromptsRequest {
    trace_id: Option<String>,
    #[serde(default)]
    prompt_versions: List<PromptFields>,
}

#[derive(Deserialize)]
struct PromptFields {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct CorrelateRequest {
    #[serde(default)]
    experiment_ids: List<String>,
    filter_string1: Option<String>,
    filter_string2: Option<String>,
    base_filter: Option<String>,
}

#[derive(Serialize)]
struct CorrelateResponse {
    /// Absent where it is not defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    npmi: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    npmi_smoothed: Option<f64>,
    filter1_count: i64,
    filter2_count: i64,
    joint_count: i64,
    total_count: i64,
}

async fn link_to_run(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LinkToRunRequest>,
) -> MlflowResult<Empty> {
    let run_id = required(request.run_id, "run_id")?;
    let linked = tracking.link_traces_to_run(&request.trace_ids.0, &run_id, caller.job_id());
    linked.await?;
    Ok(Json(Empty {}))
}

async fn link_prompts(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LinkPromptsRequest>,
) -> MlflowResult<Empty> {
    let trace_id = required(request.trace_id, "trace_id")?;
    let mut prompts = Vec::new();
    for prompt in request.prompt_versions.0 {
        let name = required(prompt.name, "prompt_versions.name")?;
        let version = required(prompt.version, "prompt_versions.version")?;
        prompts.push(format!("{name}/{version}"));
    }
    let linked = tracking.link_prompts_to_trace(&trace_id, &prompts, caller.job_id());
    linked.await?;
    Ok(Json(Empty {}))
}

async fn correlate(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<CorrelateRequest>,
) -> MlflowResult<CorrelateResponse> {
    let question = Question {
        experiment_ids: request.experiment_ids.0,
        first: required(request.filter_string1, "filter_string1")?,
        second: required(request.filter_string2, "filter_string2")?,
        base: request.base_filter.unwrap_or_default(),
    };
    let counts = tracking.correlate_traces(question).await?;
    Ok(Json(CorrelateResponse {
        npmi: counts.npmi(),
        npmi_smoothed: counts.smoothed_npmi(),
        filter1_count: counts.first,
        filter2_count: counts.second,
        joint_count: counts.both,
        total_count: counts.all,
    }))
}
