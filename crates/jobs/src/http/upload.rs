//! `POST /mlops/training/upload`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use web::{ApiError, Caller, FieldError, IdempotencyKey, Json, Path, Timestamp};

use crate::Jobs;
use crate::job::{Job, Status};
use crate::script::ScriptEncoding;
use crate::submission::Submission;

/// A training script and how to run it.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body for OpenAPI; submission.rs reads it field by field to name every mistake at once"
)]
pub(crate) struct TrainingScriptUploadRequest {
    /// The script's name, with or without `.py`.
    #[schema(example = "my_training_script")]
    script_name: String,
    /// The script: base64 or plain text.
    #[schema(example = "aW1wb3J0IG1sZmxvdw==")]
    script_content: String,
    /// How `script_content` is written.
    script_encoding: Option<ScriptEncoding>,
    /// The MLflow experiment; created when there is none of this name.
    #[schema(example = "customer_churn")]
    experiment_name: String,
    /// The registered model that the trained model becomes a version of.
    #[schema(example = "churn_predictor")]
    model_name: String,
    /// PEP 508 requirements; absent: the script's inline metadata, else the default packages.
    #[schema(example = json!(["scikit-learn", "pandas", "numpy"]))]
    requirements: Option<Vec<String>>,
    /// Variables of the script's environment.
    #[schema(example = json!({"N_ESTIMATORS": "100"}))]
    environment_vars: Option<BTreeMap<String, String>>,
    /// How long the script may run, in seconds; installing packages does not count.
    #[schema(minimum = 60, maximum = 3600, default = 300)]
    timeout: Option<u32>,
    /// Tags of the run and of the model version.
    #[schema(example = json!({"team": "data-science"}))]
    tags: Option<BTreeMap<String, String>>,
    /// Fail when the script leaves no model.
    #[schema(default = false)]
    require_model: Option<bool>,
    /// Turn MLflow's autologging on before the script runs.
    #[schema(default = false)]
    autolog: Option<bool>,
    /// A Python version such as `3.11`.
    #[schema(example = "3.11")]
    python_version: Option<String>,
    resources: Option<Resources>,
    /// The same key from the same caller gives the same job, as the header does.
    #[schema(example = "nightly-2026-01-31")]
    idempotency_key: Option<String>,
}

/// What a job may use.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body for OpenAPI")]
struct Resources {
    /// `512Mi`, `2GB` or a number of bytes.
    #[schema(example = "2Gi")]
    memory: Option<String>,
    #[schema(example = 1.5)]
    cpus: Option<f64>,
}

/// The job that now waits.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrainingScriptUploadResponse {
    /// Opaque.
    #[schema(example = "01j9z3k0v8c4m5n6p7q8r9s0t1")]
    job_id: String,
    script_name: String,
    experiment_name: String,
    model_name: String,
    status: Status,
    created_at: Timestamp,
}

/// Uploads a training script; it runs in the background.
#[utoipa::path(
    post,
    path = "/mlops/training/upload",
    tag = "training",
    request_body = TrainingScriptUploadRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key from the same caller gives the same job")),
    responses(
        (status = 202, body = TrainingScriptUploadResponse, headers(("Location" = String, description = "The job"))),
        (status = 409, description = "The Idempotency-Key was used for another request"),
        (status = 422, description = "Fields are wrong; all of them are named"),
        (status = 429, description = "Too many jobs wait"),
    )
)]
pub(super) async fn upload(
    State(jobs): State<Jobs>,
    Caller(caller): Caller,
    IdempotencyKey(header): IdempotencyKey,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let mut submission = Submission::parse(body, jobs.config())?;
    submission.idempotency_key = same_key(header, submission.idempotency_key)?;
    let job = jobs.submit(&submission, &caller).await?;
    Ok(accepted(job))
}

/// Runs again what a job ran: the same script, packages, variables and settings. A training from feature
/// views reads the snapshots that the first one read.
#[utoipa::path(
    post,
    path = "/mlops/training/jobs/{job_id}/rerun",
    tag = "training",
    params(
        ("job_id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key from the same caller gives the same job"),
    ),
    responses(
        (status = 202, body = TrainingScriptUploadResponse, headers(("Location" = String, description = "The new job"))),
        (status = 404, description = "No such job"),
        (status = 409, description = "The job or its variables cannot be read any more, or the Idempotency-Key was used for another request"),
        (status = 429, description = "Too many jobs wait"),
    )
)]
pub(super) async fn rerun(
    State(jobs): State<Jobs>,
    Caller(caller): Caller,
    Path(job_id): Path<String>,
    IdempotencyKey(key): IdempotencyKey,
) -> Result<Response, ApiError> {
    Ok(accepted(jobs.rerun(&job_id, key, &caller).await?))
}

/// The answer for a job that now waits.
fn accepted(job: Job) -> Response {
    let location = format!("/mlops/training/jobs/{}", job.job_id);
    let response = TrainingScriptUploadResponse {
        job_id: job.job_id,
        script_name: job.request.script_name,
        experiment_name: job.request.experiment_name,
        model_name: job.request.model_name,
        status: job.status,
        created_at: Timestamp(job.created_at),
    };
    let location = [(header::LOCATION, location)];
    (StatusCode::ACCEPTED, location, Json(response)).into_response()
}

/// The key of the header or of the body, which must not name two.
fn same_key(header: Option<String>, field: Option<String>) -> Result<Option<String>, ApiError> {
    match (header, field) {
        (Some(header), Some(field)) if header != field => {
            let message = "differs from the Idempotency-Key header: send one of them";
            Err(FieldError::body(["idempotency_key"], message).into())
        }
        (header, field) => Ok(header.or(field)),
    }
}
