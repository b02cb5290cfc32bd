//! `GET /feast/features/{name}/usage`: which jobs read a view, and which models used its features.

use std::collections::HashMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, Json, Path, Permission, Query, Routes, Style, Timestamp};

use super::loads::ListQuery;
use crate::FeatureStore;
use crate::history::DescribeJobs;

/// The route that tells which jobs and models used a view; `describe` knows the jobs.
pub fn usage_routes(store: FeatureStore, describe: DescribeJobs) -> Routes {
    Routes::new(Style::Asgard)
        .get(
            "/feast/features/{name}/usage",
            Permission::ReadFeatures,
            usage,
        )
        .with_state(Usage { store, describe })
}

#[derive(OpenApi)]
#[openapi(paths(usage))]
pub(super) struct Api;

#[derive(Clone)]
struct Usage {
    store: FeatureStore,
    describe: DescribeJobs,
}

#[derive(Debug, Serialize, ToSchema)]
struct UsageResponse {
    jobs: Vec<JobUsage>,
    /// The models that asked for its features with `features_from`.
    models: Vec<ModelUsage>,
}

/// A model whose predictions took features of the view.
#[derive(Debug, Serialize, ToSchema)]
struct ModelUsage {
    model_name: String,
    model_version: String,
    first_used_at: Timestamp,
    /// To the minute.
    last_used_at: Timestamp,
}

/// A job that read the view, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
struct JobUsage {
    job_id: String,
    /// The snapshot that it read.
    snapshot_id: Option<i64>,
    read_at: Timestamp,
    /// Absent when the job is not known any more.
    status: Option<String>,
    model_name: Option<String>,
    /// The version that it registered.
    model_version: Option<String>,
    run_id: Option<String>,
}

/// Lists the jobs that read a view, the latest first, with the models that they made, and the
/// models whose predictions took its features.
#[utoipa::path(get, path = "/feast/features/{name}/usage", tag = "features", params(("name" = String, Path), ListQuery),
    responses((status = 200, body = UsageResponse), (status = 404, description = "no such view"), (status = 422, description = "a parameter is wrong")))]
async fn usage(
    State(usage): State<Usage>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<UsageResponse>, ApiError> {
    let limit = query.limit()?;
    let reads = usage.store.reads(&name, limit).await?;
    let models = usage.store.model_uses(&name, limit).await?;
    let mut ids: Vec<String> = reads.iter().map(|read| read.job_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let known = (usage.describe)(ids).await?;
    let known: HashMap<_, _> = known
        .into_iter()
        .map(|job| (job.job_id.clone(), job))
        .collect();
    let jobs = reads.into_iter().map(|read| {
        let job = known.get(&read.job_id);
        JobUsage {
            status: job.map(|job| job.status.clone()),
            model_name: job.map(|job| job.model_name.clone()),
            model_version: job.and_then(|job| job.model_version.clone()),
            run_id: job.and_then(|job| job.run_id.clone()),
            job_id: read.job_id,
            snapshot_id: read.snapshot_id,
            read_at: Timestamp(read.read_at),
        }
    });
    let models = models.into_iter().map(|used| ModelUsage {
        model_name: used.model_name,
        model_version: used.model_version.to_string(),
        first_used_at: Timestamp(used.first_used_at),
        last_used_at: Timestamp(used.used_at),
    });
    Ok(Json(UsageResponse {
        jobs: jobs.collect(),
        models: models.collect(),
    }))
}
