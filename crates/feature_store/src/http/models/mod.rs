//! `POST /mlops/models`: a model out of feature views, without a script of one's own.

mod request;

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, Caller, Json, Permission, Routes, Style, Timestamp};

use crate::FeatureStore;
use crate::training::SubmitScript;
use request::TrainModelRequest;

/// Where training is asked for and put into the queue.
#[derive(Clone)]
struct Training {
    store: FeatureStore,
    submit: SubmitScript,
}

/// The route that trains from feature views; scripts go to `submit`.
pub fn training_routes(store: FeatureStore, submit: SubmitScript) -> Routes {
    Routes::new(Style::Asgard)
        .post("/mlops/models", Permission::RunJobs, train)
        .with_state(Training { store, submit })
}

#[derive(OpenApi)]
#[openapi(paths(train))]
pub(super) struct Api;

/// The job that trains the model.
#[derive(Debug, Serialize, ToSchema)]
struct TrainModelResponse {
    job_id: String,
    /// `queued`.
    status: String,
    model_name: String,
    experiment_name: String,
    framework: &'static str,
    model_type: &'static str,
    /// The columns that the model learns from.
    features: Vec<String>,
    target_column: String,
    /// The snapshot that each view is read at; `labels` is that of the table of the rows.
    snapshots: BTreeMap<String, i64>,
    /// The script of the job.
    script: String,
    created_at: Timestamp,
    message: String,
}

/// Trains a model from feature views: makes a script and runs it as an ordinary job. The snapshots
/// of the tables stand in the script and are tags of the run and of the version.
#[utoipa::path(
    post,
    path = "/mlops/models",
    tag = "models",
    request_body = TrainModelRequest,
    responses(
        (status = 202, body = TrainModelResponse, headers(("Location" = String, description = "The job"))),
        (status = 400, description = "A feature or column is not there; those that are there are named"),
        (status = 404, description = "No such feature view or table"),
        (status = 422, description = "A field is wrong: the kinds of models and metrics that there are are named"),
        (status = 429, description = "Too many jobs wait"),
    )
)]
async fn train(
    State(training): State<Training>,
    Caller(caller): Caller,
    Json(mut request): Json<TrainModelRequest>,
) -> Result<Response, ApiError> {
    let asked = request.parse()?;
    let framework = asked.framework;
    let plan = training.store.plan_training(asked).await?;
    let model_name = request.model_name.clone();
    let experiment_name = request.experiment_name.clone();
    let body = request.upload(framework, &plan);
    let job = (training.submit)(body, caller).await?;
    let location = format!("/mlops/training/jobs/{}", job.job_id);
    let response = TrainModelResponse {
        message: format!(
            "{} is trained by job {}: GET {location}",
            plan.estimator.class, job.job_id
        ),
        job_id: job.job_id,
        status: job.status,
        experiment_name: experiment_name.unwrap_or_else(|| model_name.clone()),
        model_name,
        framework: framework.name(),
        model_type: plan.estimator.class,
        features: plan.numbers.iter().chain(&plan.texts).cloned().collect(),
        script: plan.script(),
        target_column: plan.target,
        snapshots: plan.snapshots,
        created_at: Timestamp(job.created_at),
    };
    let location = [(header::LOCATION, location)];
    Ok((StatusCode::ACCEPTED, location, Json(response)).into_response())
}
