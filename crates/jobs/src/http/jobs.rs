//! Reading, listing and cancelling jobs.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Caller, FieldError, Json, Path, Query, Timestamp};

use crate::job::{Job, Phase, Problem, Reason, Status};
use crate::listing::{Filter, Page};
use crate::variables::redacted;
use crate::{Jobs, memory};

/// A job, whole. Every field is always there, null while it has no value.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrainingJobStatus {
    job_id: String,
    script_name: String,
    experiment_name: String,
    model_name: String,
    status: Status,
    /// What a running job does.
    phase: Option<Phase>,
    /// Why it failed, in one word.
    reason: Option<Reason>,
    /// From 0.0 to 1.0, where the script reports it.
    progress: Option<f64>,
    /// The MLflow run that owns the model, else the last one.
    run_id: Option<String>,
    #[schema(example = "1")]
    model_version: Option<String>,
    /// The log until now; empty in lists.
    logs: String,
    /// What went wrong, in a sentence.
    error: Option<String>,
    error_info: Option<Problem>,
    warnings: Vec<Problem>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    /// When the first line of the script ran.
    script_started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    /// From start to end; null until the end.
    duration_seconds: Option<f64>,
    /// Whole seconds since the start, live while running.
    elapsed_seconds: i64,
    queue_seconds: Option<f64>,
    timeout: u32,
    requirements: Option<Vec<String>>,
    /// Values that may be secrets are shown as `***`.
    environment_vars: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    require_model: bool,
    autolog: bool,
    python_version: Option<String>,
    resources: ResourcesGranted,
    resource_usage: ResourceUsage,
    /// What kept the script apart from the machine.
    #[schema(value_type = Object)]
    isolation: Option<Value>,
    /// The key of the environment it ran in.
    environment: Option<String>,
    exit_code: Option<i32>,
    /// Whether an interpreter that had done its imports in advance took the script.
    warm_start: bool,
    /// More than one after a server died under it.
    attempt: i64,
    cancel_requested: bool,
    /// All runs that the job made, oldest first.
    run_ids: Vec<String>,
    model_uri: Option<String>,
    /// The experiment of the run, when the script chose its own.
    run_experiment_name: Option<String>,
    created_by: String,
}

/// What the job may use.
#[derive(Serialize, ToSchema)]
pub(crate) struct ResourcesGranted {
    memory_bytes: Option<u64>,
    cpus: Option<f64>,
}

/// What the job has used.
#[derive(Serialize, ToSchema)]
pub(crate) struct ResourceUsage {
    peak_memory_bytes: Option<u64>,
    /// For people: `512 MB`.
    peak_memory: Option<String>,
    cpu_seconds: Option<f64>,
}

impl TrainingJobStatus {
    fn new(job: Job, logs: String, now: i64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "times in a queue fit a float exactly"
        )]
        let queue_seconds = job
            .started_at
            .map(|start| (start - job.created_at).max(0) as f64 / 1000.0);
        Self {
            duration_seconds: job.duration_seconds(),
            elapsed_seconds: job.elapsed_seconds(now),
            queue_seconds,
            job_id: job.job_id,
            script_name: job.request.script_name,
            experiment_name: job.request.experiment_name,
            model_name: job.request.model_name,
            status: job.status,
            phase: job.phase.filter(|_| job.status == Status::Running),
            reason: job.reason,
            progress: job.progress,
            run_id: job.run_id,
            model_version: job.model_version,
            logs,
            error: job.error.as_ref().map(|problem| problem.message.clone()),
            error_info: job.error,
            warnings: job.warnings,
            created_at: Timestamp(job.created_at),
            started_at: job.started_at.map(Timestamp),
            script_started_at: job.script_started_at.map(Timestamp),
            completed_at: job.completed_at.map(Timestamp),
            timeout: job.request.timeout_s,
            requirements: job.request.requirements,
            environment_vars: redacted(&job.request.environment_vars),
            tags: job.request.tags,
            require_model: job.request.require_model,
            autolog: job.request.autolog,
            python_version: job.facts.python_version.or(job.request.python),
            resources: ResourcesGranted {
                memory_bytes: job.request.memory_bytes,
                cpus: job.request.cpus,
            },
            resource_usage: ResourceUsage {
                peak_memory_bytes: job.facts.peak_memory_bytes,
                peak_memory: job.facts.peak_memory_bytes.map(memory::display),
                cpu_seconds: job.facts.cpu_seconds,
            },
            isolation: job.facts.isolation,
            environment: job.facts.environment,
            exit_code: job.facts.exit_code,
            warm_start: job.facts.warm_start,
            attempt: job.attempt,
            cancel_requested: job.cancel_requested,
            run_ids: job.facts.run_ids,
            model_uri: job.facts.model_uri,
            run_experiment_name: job.facts.run_experiment,
            created_by: job.created_by,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetJobQuery {
    /// `false` leaves the log out, for quick polling.
    logs: Option<bool>,
}

/// A job, with its log until now.
#[utoipa::path(
    get,
    path = "/mlops/training/jobs/{job_id}",
    tag = "training",
    params(("job_id" = String, Path), GetJobQuery),
    responses((status = 200, body = TrainingJobStatus), (status = 404, description = "No such job"))
)]
pub(super) async fn get(
    State(jobs): State<Jobs>,
    Path(job_id): Path<String>,
    Query(query): Query<GetJobQuery>,
) -> Result<Json<TrainingJobStatus>, ApiError> {
    let job = jobs.get(&job_id).await?;
    let logs = if query.logs.unwrap_or(true) {
        jobs.log(&job_id, 0).await?.text
    } else {
        String::new()
    };
    Ok(Json(TrainingJobStatus::new(job, logs, Timestamp::now().0)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListJobsQuery {
    /// `queued`, `running`, `completed` or `failed`.
    status: Option<String>,
    experiment_name: Option<String>,
    model_name: Option<String>,
    /// Part of the script's, experiment's or model's name.
    text: Option<String>,
    /// How many jobs, 1 to 1000.
    #[param(default = 50)]
    limit: Option<i64>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
}

/// A page of jobs, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrainingJobList {
    jobs: Vec<TrainingJobStatus>,
    next_page_token: Option<String>,
}

/// Lists jobs, newest first, without their logs.
#[utoipa::path(
    get,
    path = "/mlops/training/jobs",
    tag = "training",
    params(ListJobsQuery),
    responses((status = 200, body = TrainingJobList), (status = 422, description = "A parameter is wrong"))
)]
pub(super) async fn list(
    State(jobs): State<Jobs>,
    Query(query): Query<ListJobsQuery>,
) -> Result<Json<TrainingJobList>, ApiError> {
    let status = match query.status.as_deref().filter(|s| !s.is_empty()) {
        None => None,
        Some(word) => Some(Status::parse(word).ok_or_else(|| {
            FieldError::query("status", "must be queued, running, completed or failed")
        })?),
    };
    let limit = query.limit.unwrap_or(50);
    if !(1..=1000).contains(&limit) {
        return Err(FieldError::query("limit", "must be between 1 and 1000").into());
    }
    let filter = Filter {
        status,
        experiment_name: query.experiment_name,
        model_name: query.model_name,
        text: query.text.filter(|text| !text.is_empty()),
    };
    let page = Page {
        limit,
        before: query.page_token.filter(|token| !token.is_empty()),
    };
    let (found, more) = jobs.list(&filter, &page).await?;
    let next_page_token = found.last().filter(|_| more).map(|job| job.job_id.clone());
    let now = Timestamp::now().0;
    Ok(Json(TrainingJobList {
        jobs: found
            .into_iter()
            .map(|job| TrainingJobStatus::new(job, String::new(), now))
            .collect(),
        next_page_token,
    }))
}

/// Stops a job that waits or runs.
#[utoipa::path(
    post,
    path = "/mlops/training/jobs/{job_id}/cancel",
    tag = "training",
    params(("job_id" = String, Path)),
    responses(
        (status = 202, body = TrainingJobStatus, description = "The job is stopped, or is being stopped"),
        (status = 404, description = "No such job"),
        (status = 409, description = "The job has ended already"),
    )
)]
pub(super) async fn cancel(
    State(jobs): State<Jobs>,
    Caller(caller): Caller,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    let job = jobs.cancel(&job_id, &caller.label()).await?;
    let document = TrainingJobStatus::new(job, String::new(), Timestamp::now().0);
    Ok((StatusCode::ACCEPTED, Json(document)).into_response())
}

/// The script of a job, as it was uploaded.
#[utoipa::path(
    get,
    path = "/mlops/training/jobs/{job_id}/script",
    tag = "training",
    params(("job_id" = String, Path)),
    responses((status = 200, content_type = "text/x-python"), (status = 404, description = "No such job"))
)]
pub(super) async fn script(
    State(jobs): State<Jobs>,
    Path(job_id): Path<String>,
) -> Result<Response, ApiError> {
    let job = jobs.get(&job_id).await?;
    let script = jobs.script(&job_id).await?;
    let ascii: String = job
        .request
        .script_file
        .chars()
        .map(|c| if c.is_ascii() { c } else { '_' })
        .collect();
    Ok((
        [
            (
                header::CONTENT_TYPE,
                "text/x-python; charset=utf-8".to_owned(),
            ),
            (
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"{ascii}\""),
            ),
        ],
        script,
    )
        .into_response())
}
