//! The routes of jobs and their wire types.

mod jobs;
mod logs;
mod progress;
mod upload;

use utoipa::OpenApi;
use web::{Permission, Routes, Style};

use crate::Jobs;

pub(crate) fn routes(jobs: Jobs) -> Routes {
    Routes::new(Style::Asgard)
        .post(
            "/mlops/training/upload",
            Permission::RunJobs,
            upload::upload,
        )
        .get("/mlops/training/jobs", Permission::ReadJobs, jobs::list)
        .get(
            "/mlops/training/jobs/{job_id}",
            Permission::ReadJobs,
            jobs::get,
        )
        .get(
            "/mlops/training/jobs/{job_id}/script",
            Permission::ReadJobs,
            jobs::script,
        )
        .post(
            "/mlops/training/jobs/{job_id}/cancel",
            Permission::RunJobs,
            jobs::cancel,
        )
        .post(
            "/mlops/training/jobs/{job_id}/rerun",
            Permission::RunJobs,
            upload::rerun,
        )
        .get(
            "/mlops/training/jobs/{job_id}/logs",
            Permission::ReadJobs,
            logs::logs,
        )
        .post(
            "/mlops/training/jobs/{job_id}/progress",
            Permission::ReportProgress,
            progress::report,
        )
        .with_state(jobs)
}

#[derive(OpenApi)]
#[openapi(paths(
    upload::upload,
    jobs::list,
    jobs::get,
    jobs::script,
    jobs::cancel,
    upload::rerun,
    logs::logs,
    progress::report
))]
struct Document;

/// The description of these routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
