//! `GET /feast/features/{name}/stats`: what is in a view.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, FieldError, Json, Path, Permission, Query, Routes, Timestamp};

use crate::FeatureStore;
use crate::stats::{FeatureStats, ViewStats};
use crate::table::TableRef;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes.get(
        "/feast/features/{name}/stats",
        Permission::ReadFeatures,
        stats,
    )
}

#[derive(OpenApi)]
#[openapi(paths(stats))]
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
    #[schema(value_type = Value)]
    min: Value,
    #[schema(value_type = Value)]
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

/// Epoch microseconds, as answers tell times.
pub(super) fn of_us(us: Option<i64>) -> Option<Timestamp> {
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
    responses((status = 200, body = StatsResponse), (status = 400, description = "the table has no such snapshot"), (status = 404, description = "no such view"), (status = 422, description = "a parameter is wrong")))]
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
