//! `GET /feast/status`: whether the feature store answers, and what it holds.

use axum::extract::State;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, Json, Permission, Routes};

use crate::FeatureStore;

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes.get("/feast/status", Permission::ReadFeatures, status)
}

#[derive(OpenApi)]
#[openapi(paths(status))]
pub(super) struct Api;

#[derive(Debug, Serialize, ToSchema)]
struct FeatureStoreStatus {
    /// `available`.
    status: &'static str,
    feature_views_count: i64,
    entities_count: i64,
    /// Feature services: the lists of features that models are trained on.
    models_count: i64,
    /// Where online values are kept.
    online_store: &'static str,
    /// Definitions are rows of asgard's own database.
    registry_path: &'static str,
    catalogs: Vec<String>,
}

/// Tells the state of the feature store.
#[utoipa::path(get, path = "/feast/status", tag = "features", responses((status = 200, body = FeatureStoreStatus)))]
async fn status(State(store): State<FeatureStore>) -> Result<Json<FeatureStoreStatus>, ApiError> {
    let counts = store.counts().await?;
    Ok(Json(FeatureStoreStatus {
        status: "available",
        feature_views_count: counts.feature_views,
        entities_count: counts.entities,
        models_count: counts.feature_services,
        online_store: store.online.place(),
        registry_path: match store.db.backend() {
            db::Backend::Sqlite => "asgard's database (sqlite)",
            db::Backend::Postgres => "asgard's database (postgres)",
        },
        catalogs: store.catalogs.names(),
    }))
}
