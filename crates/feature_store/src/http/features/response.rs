//! A feature view as it is shown.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use web::Timestamp;

use crate::feature_view::FeatureView;

/// A feature view.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FeatureViewResponse {
    pub(super) name: String,
    pub(super) entities: Vec<String>,
    join_keys: Vec<String>,
    features: Vec<FeatureResponse>,
    source: SourceResponse,
    ttl_seconds: Option<i64>,
    ttl_days: Option<f64>,
    online: bool,
    pub(super) tags: BTreeMap<String, String>,
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
