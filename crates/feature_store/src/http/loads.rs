//! `GET /feast/features/{name}/materializations`: when a view was loaded into the online store.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, FieldError, Json, Path, Permission, Query, Routes, Timestamp};

use super::stats::of_us;
use crate::FeatureStore;
use crate::store::history::LoadRow;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes.get(
        "/feast/features/{name}/materializations",
        Permission::ReadFeatures,
        materializations,
    )
}

#[derive(OpenApi)]
#[openapi(paths(materializations))]
pub(super) struct Api;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many, 1 to 1000.
    #[param(default = 100)]
    limit: Option<i64>,
}

impl ListQuery {
    pub(super) fn limit(&self) -> Result<i64, ApiError> {
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
    responses((status = 200, body = MaterializationsResponse), (status = 404, description = "no such view"), (status = 422, description = "a parameter is wrong")))]
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
