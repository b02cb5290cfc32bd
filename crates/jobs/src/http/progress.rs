//! `POST /mlops/training/jobs/{job_id}/progress`: a running job tells how far it is.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{ApiError, Caller, Code, FieldError, Json, Path};

use crate::Jobs;
use crate::error::Error;

/// How far a job is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ProgressRequest {
    /// From 0.0 to 1.0.
    #[schema(minimum = 0.0, maximum = 1.0, example = 0.4)]
    progress: f64,
}

/// What was stored.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProgressResponse {
    job_id: String,
    progress: f64,
}

/// Reports how far a running job is; for the job itself.
///
/// A script may as well print `::progress 0.4::` on a line of its own.
#[utoipa::path(
    post,
    path = "/mlops/training/jobs/{job_id}/progress",
    tag = "training",
    params(("job_id" = String, Path)),
    request_body = ProgressRequest,
    responses(
        (status = 200, body = ProgressResponse),
        (status = 403, description = "Another job"),
        (status = 409, description = "The job has ended"),
        (status = 422, description = "Not a number from 0.0 to 1.0"),
    )
)]
pub(super) async fn report(
    State(jobs): State<Jobs>,
    Caller(caller): Caller,
    Path(job_id): Path<String>,
    Json(request): Json<ProgressRequest>,
) -> Result<Json<ProgressResponse>, ApiError> {
    if caller.job_id().is_some_and(|own| own != job_id) {
        return Err(ApiError::new(
            Code::Forbidden,
            "a job may report its own progress only",
        ));
    }
    if !(0.0..=1.0).contains(&request.progress) {
        return Err(FieldError::body(["progress"], "must be a number from 0.0 to 1.0").into());
    }
    if !jobs.report_progress(&job_id, request.progress).await? {
        let job = jobs.get(&job_id).await?;
        return Err(Error::Finished {
            job_id,
            status: job.status,
        }
        .into());
    }
    Ok(Json(ProgressResponse {
        job_id,
        progress: request.progress,
    }))
}
