//! `/feast/features`: create, list, look at and delete feature views.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, FieldError, Json, Path, Permission, Routes, Timestamp};

use crate::FeatureStore;
use crate::definition::NewFeatureView;
use crate::dtype::Dtype;
use crate::feature_view::FeatureView;
use crate::registry::PROJECT;
use crate::table::{LOCAL_CATALOG, TableRef};

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes
        .post("/feast/features", Permission::WriteFeatures, create)
        .get("/feast/features", Permission::ReadFeatures, list)
        .get("/feast/features/{name}", Permission::ReadFeatures, get)
        .delete("/feast/features/{name}", Permission::WriteFeatures, delete)
}

#[derive(OpenApi)]
#[openapi(
    paths(create, list, get, delete),
    components(schemas(CreateFeatureViewRequest, CreatedResponse, FeatureViewResponse))
)]
pub(super) struct Api;

/// A feature view to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateFeatureViewRequest {
    /// Letters, digits, `_`, `-`, `.`.
    name: String,
    /// What the features are about; each is a column of the table, unless `join_keys` says.
    entities: Vec<String>,
    /// The key columns, one for each entity.
    join_keys: Option<Vec<String>>,
    features: Vec<FeatureRequest>,
    source: SourceRequest,
    /// How old a value may be; absent or 0: any age.
    ttl_days: Option<f64>,
    ttl_seconds: Option<i64>,
    /// Whether the view is meant for online reads.
    #[serde(default = "yes")]
    online: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    owner: String,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FeatureRequest {
    name: String,
    /// `int32 int64 float32 float64 string bytes bool unix_timestamp`, `list<TYPE>` of these,
    /// `map json struct uuid decimal`.
    #[serde(alias = "type")]
    dtype: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SourceRequest {
    #[serde(alias = "table")]
    table_name: String,
    catalog: Option<String>,
    schema: String,
    /// The column with the time of an event; absent: the only timestamp column, or the one
    /// called `event_timestamp`.
    #[serde(alias = "timestamp_column")]
    timestamp_field: Option<String>,
    /// The column that says which of two rows of the same time is the newer.
    created_timestamp_column: Option<String>,
    /// Column of the table to name in the view, where they differ.
    #[serde(default)]
    field_mapping: BTreeMap<String, String>,
}

impl CreateFeatureViewRequest {
    fn parse(self) -> Result<NewFeatureView, ApiError> {
        let mut refused = Vec::new();
        let mut features = Vec::new();
        for (index, feature) in self.features.iter().enumerate() {
            match Dtype::parse(&feature.dtype) {
                Some(dtype) => features.push((feature.name.clone(), dtype)),
                None => refused.push(FieldError::body(
                    ["features", &index.to_string(), "dtype"],
                    format!(
                        "{:?} is not a type; the types are {}",
                        feature.dtype,
                        Dtype::names()
                    ),
                )),
            }
        }
        let ttl_seconds = match (self.ttl_seconds, self.ttl_days) {
            (Some(_), Some(_)) => {
                let said = "give ttl_days or ttl_seconds, not both";
                refused.push(FieldError::body(["ttl_days"], said));
                None
            }
            (seconds, None) => seconds,
            (None, Some(days)) if days.is_finite() && days.abs() < 1e7 => {
                Some((days * 86400.0).round() as i64)
            }
            (None, Some(_)) => {
                refused.push(FieldError::body(["ttl_days"], "that is no number of days"));
                None
            }
        };
        if !refused.is_empty() {
            return Err(ApiError::fields(refused));
        }
        Ok(NewFeatureView {
            name: self.name,
            entities: self.entities,
            join_keys: self.join_keys,
            features,
            table: TableRef {
                catalog: self
                    .source
                    .catalog
                    .unwrap_or_else(|| LOCAL_CATALOG.to_owned()),
                schema: self.source.schema,
                name: self.source.table_name,
            },
            timestamp_field: self.source.timestamp_field,
            created_timestamp_column: self.source.created_timestamp_column,
            field_mapping: self.source.field_mapping,
            ttl_seconds,
            online: self.online,
            tags: self.tags,
            description: self.description,
            owner: self.owner,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct CreatedResponse {
    name: String,
    /// Always `registered`.
    status: &'static str,
    feature_count: usize,
    entity_count: usize,
    online_enabled: bool,
    created_at: Timestamp,
    message: String,
}

/// Creates a feature view over an Iceberg table.
#[utoipa::path(post, path = "/feast/features", tag = "features", request_body = CreateFeatureViewRequest,
    responses((status = 201, body = CreatedResponse), (status = 200, body = CreatedResponse, description = "the same view was there"),
        (status = 400, description = "a column or type does not fit"), (status = 404, description = "no such table"), (status = 409, description = "the name is taken")))]
async fn create(
    State(store): State<FeatureStore>,
    Json(request): Json<CreateFeatureViewRequest>,
) -> Result<(StatusCode, Json<CreatedResponse>), ApiError> {
    let new = request.parse()?;
    let created = store.create_feature_view(new, Timestamp::now().0).await?;
    let (status, what) = if created.new {
        (StatusCode::CREATED, "was registered")
    } else {
        (
            StatusCode::OK,
            "was registered already, with the same definition",
        )
    };
    let view = created.view;
    let response = CreatedResponse {
        message: format!(
            "Feature view '{}' {what}; its rows come from {}, the time of an event from column {:?}",
            view.name, view.source.name, view.source.timestamp_column
        ),
        name: view.name,
        status: "registered",
        feature_count: view.features.len(),
        entity_count: view.entities.len(),
        online_enabled: view.online,
        created_at: Timestamp(view.created_at),
    };
    Ok((status, Json(response)))
}

/// A feature view.
#[derive(Debug, Serialize, ToSchema)]
struct FeatureViewResponse {
    name: String,
    entities: Vec<String>,
    join_keys: Vec<String>,
    features: Vec<FeatureResponse>,
    source: SourceResponse,
    ttl_seconds: Option<i64>,
    ttl_days: Option<f64>,
    online: bool,
    tags: BTreeMap<String, String>,
    description: String,
    owner: String,
    /// The times that were loaded into the online store.
    materialized: Vec<IntervalResponse>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct IntervalResponse {
    start: Timestamp,
    end: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct FeatureResponse {
    name: String,
    dtype: String,
    column: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct SourceResponse {
    /// Absent when the view was applied by an SDK over something that asgard cannot read.
    catalog: Option<String>,
    schema: Option<String>,
    table_name: Option<String>,
    address: String,
    timestamp_field: String,
    created_timestamp_column: Option<String>,
    field_mapping: BTreeMap<String, String>,
}

impl From<FeatureView> for FeatureViewResponse {
    fn from(view: FeatureView) -> Self {
        let ttl_seconds = view.ttl_us.map(|us| us / 1_000_000);
        let table = view.source.table;
        Self {
            name: view.name,
            entities: view.entities,
            join_keys: view.join_keys,
            features: view
                .features
                .into_iter()
                .map(|f| FeatureResponse {
                    name: f.name,
                    dtype: f.dtype.to_string(),
                    column: f.column,
                })
                .collect(),
            source: SourceResponse {
                catalog: table.as_ref().map(|t| t.catalog.clone()),
                schema: table.as_ref().map(|t| t.schema.clone()),
                table_name: table.map(|t| t.name),
                address: view.source.address,
                timestamp_field: view.source.timestamp_column,
                created_timestamp_column: view.source.created_column,
                field_mapping: view.source.field_mapping,
            },
            ttl_seconds,
            ttl_days: ttl_seconds.map(|s| s as f64 / 86400.0),
            online: view.online,
            tags: view.tags,
            description: view.description,
            owner: view.owner,
            materialized: view
                .materialized
                .into_iter()
                .map(|(start_us, end_us)| IntervalResponse {
                    start: Timestamp(start_us.div_euclid(1000)),
                    end: Timestamp(end_us.div_euclid(1000)),
                })
                .collect(),
            created_at: Timestamp(view.created_at),
            updated_at: Timestamp(view.updated_at),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct ListResponse {
    feature_views: Vec<FeatureViewResponse>,
    total_count: usize,
}

/// Lists the feature views.
#[utoipa::path(get, path = "/feast/features", tag = "features", responses((status = 200, body = ListResponse)))]
async fn list(State(store): State<FeatureStore>) -> Result<Json<ListResponse>, ApiError> {
    let views = store.feature_views(PROJECT).await?;
    Ok(Json(ListResponse {
        total_count: views.len(),
        feature_views: views.into_iter().map(Into::into).collect(),
    }))
}

/// Shows a feature view.
#[utoipa::path(get, path = "/feast/features/{name}", tag = "features",
    responses((status = 200, body = FeatureViewResponse), (status = 404, description = "no such view")))]
async fn get(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
) -> Result<Json<FeatureViewResponse>, ApiError> {
    Ok(Json(store.feature_view(PROJECT, &name).await?.into()))
}

/// Deletes a feature view; its table stays.
#[utoipa::path(delete, path = "/feast/features/{name}", tag = "features",
    responses((status = 204), (status = 404, description = "no such view"), (status = 409, description = "a feature service uses it")))]
async fn delete(
    State(store): State<FeatureStore>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    store.delete_feature_view(PROJECT, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
