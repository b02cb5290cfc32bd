//! `/feast/features/{name}/stats`, `.../materializations`, `.../usage`: what is in a view, when it
//! was loaded, who read it.

use std::collections::HashMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, FieldError, Json, Path, Permission, Query, Routes, Style, Timestamp};

use crate::FeatureStore;
use crate::history::DescribeJobs;
use crate::stats::{FeatureStats, ViewStats};
use crate::store::history::LoadRow;
use crate::table::TableRef;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    let read = Permission::ReadFeatures;
    routes.get("/feast/features/{name}/stats", read, stats).get(
        "/feast/features/{name}/materializations",
        read,
        materializations,
    )
}

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
#[openapi(paths(stats, materializations, usage))]
pub(super) struct Api;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// The snapshot to look at; absent: the newest.
    snapshot_id: Option<i64>,
    /// The bins of a histogram, 1 to 200.
    #[param(default = 20)]
    bins: Option<usize>,
}

/// The table behind a view.
#[derive(Debug, Serialize, ToSchema)]
struct StatsResponse {
    name: String,
    table: TableRef,
    snapshot_id: Option<i64>,
    snapshot_at: Option<Timestamp>,
    row_count: u64,
    /// Rows that no entity finds: a join key is null.
    rows_without_key: u64,
    rows_without_time: u64,
    first_event: Option<Timestamp>,
    last_event: Option<Timestamp>,
    /// How long ago the last event was.
    freshness_seconds: Option<f64>,
    features: Vec<FeatureStatsResponse>,
    /// Entities in the online store.
    online_entities: usize,
    /// The snapshot that the online store was last loaded from.
    online_snapshot_id: Option<i64>,
}

/// The values of a feature.
#[derive(Debug, Serialize, ToSchema)]
struct FeatureStatsResponse {
    name: String,
    dtype: String,
    null_count: u64,
    null_rate: f64,
    /// NaN and infinities, which count for nothing else.
    not_finite_count: u64,
    #[schema(value_type = Object)]
    min: Value,
    #[schema(value_type = Object)]
    max: Value,
    mean: Option<f64>,
    histogram: Option<HistogramResponse>,
    /// The most frequent texts or truth values.
    top_values: Vec<TopValue>,
    /// Whether there are more than 1000 different ones: only those that were met first are counted,
    /// and a frequent one may be missing among `top_values`.
    top_values_partial: bool,
    /// How many different ones there are; null for numbers, and where there are more than 1000.
    distinct: Option<usize>,
}

/// Counts of values between edges; the last bin holds its upper edge too.
#[derive(Debug, Serialize, ToSchema)]
struct HistogramResponse {
    edges: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TopValue {
    value: String,
    count: u64,
}

fn of_us(us: Option<i64>) -> Option<Timestamp> {
    us.map(|us| Timestamp(us.div_euclid(1000)))
}

impl StatsResponse {
    fn new(stats: ViewStats, now: i64) -> Self {
        let age = |us: i64| now as f64 / 1e3 - us as f64 / 1e6;
        let rows = stats.rows;
        let features = stats.features.into_iter();
        Self {
            name: stats.view,
            table: stats.table,
            snapshot_id: stats.snapshot_id,
            snapshot_at: stats.snapshot_at.map(Timestamp),
            row_count: rows,
            rows_without_key: stats.rows_without_key,
            rows_without_time: stats.rows_without_time,
            first_event: of_us(stats.first_us),
            last_event: of_us(stats.last_us),
            freshness_seconds: stats.last_us.map(age),
            features: features
                .map(|f| FeatureStatsResponse::new(f, rows))
                .collect(),
            online_entities: stats.online_entities,
            online_snapshot_id: stats.online_snapshot_id,
        }
    }
}

impl FeatureStatsResponse {
    fn new(stats: FeatureStats, rows: u64) -> Self {
        let top = stats.top.into_iter();
        Self {
            name: stats.name,
            dtype: stats.dtype.to_string(),
            null_count: stats.nulls,
            null_rate: stats.nulls as f64 / rows.max(1) as f64,
            not_finite_count: stats.not_finite,
            min: stats.min,
            max: stats.max,
            mean: stats.mean,
            histogram: stats.histogram.map(|histogram| HistogramResponse {
                edges: histogram.edges,
                counts: histogram.counts,
            }),
            top_values: top
                .map(|(value, count)| TopValue { value, count })
                .collect(),
            top_values_partial: stats.top_is_partial,
            distinct: stats.distinct,
        }
    }
}

/// Looks at all rows of a view's table: freshness, row count, and of each feature the share of
/// nulls, the range, the mean and a histogram.
#[utoipa::path(get, path = "/feast/features/{name}/stats", tag = "features", params(("name" = String, Path), StatsQuery),
    responses((status = 200, body = StatsResponse), (status = 404, description = "no such view"), (status = 422, description = "a parameter is wrong")))]
async fn stats(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<StatsResponse>, ApiError> {
    let bins = query.bins.unwrap_or(20);
    if !(1..=200).contains(&bins) {
        return Err(FieldError::query("bins", "must be between 1 and 200").into());
    }
    let stats = store.stats(&name, query.snapshot_id, bins).await?;
    Ok(Json(StatsResponse::new(stats, Timestamp::now().0)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// How many, 1 to 1000.
    #[param(default = 100)]
    limit: Option<i64>,
}

impl ListQuery {
    fn limit(&self) -> Result<i64, ApiError> {
        let limit = self.limit.unwrap_or(100);
        if (1..=1000).contains(&limit) {
            return Ok(limit);
        }
        Err(FieldError::query("limit", "must be between 1 and 1000").into())
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct MaterializationsResponse {
    /// Whether this server is loading the view now.
    running: bool,
    materializations: Vec<MaterializationResponse>,
}

/// A load of a view into the online store.
#[derive(Debug, Serialize, ToSchema)]
struct MaterializationResponse {
    started_at: Timestamp,
    duration_seconds: f64,
    /// `running`, `full`, `appended`, `nothing`, `failed`.
    mode: String,
    snapshot_id: Option<i64>,
    /// The span of event times that was asked for; without a start all that the ttl allows.
    start: Option<Timestamp>,
    end: Timestamp,
    rows_read: i64,
    entities_written: i64,
    /// Why it failed.
    error: Option<String>,
}

impl From<LoadRow> for MaterializationResponse {
    fn from(load: LoadRow) -> Self {
        Self {
            started_at: Timestamp(load.started_at),
            duration_seconds: load.duration_ms as f64 / 1e3,
            mode: load.mode,
            snapshot_id: load.snapshot_id,
            start: of_us(load.start_us),
            end: Timestamp(load.end_us.div_euclid(1000)),
            rows_read: load.rows_read,
            entities_written: load.entities_written,
            error: load.error,
        }
    }
}

/// Lists the loads of a view into the online store, the newest first; the last 1000 are kept.
#[utoipa::path(get, path = "/feast/features/{name}/materializations", tag = "features", params(("name" = String, Path), ListQuery),
    responses((status = 200, body = MaterializationsResponse), (status = 404, description = "no such view")))]
async fn materializations(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<MaterializationsResponse>, ApiError> {
    let loads = store.loads(&name, query.limit()?).await?;
    Ok(Json(MaterializationsResponse {
        running: store.is_loading(&name),
        materializations: loads.into_iter().map(Into::into).collect(),
    }))
}

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
    responses((status = 200, body = UsageResponse), (status = 404, description = "no such view")))]
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
