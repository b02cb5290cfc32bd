//! A feature view as it is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;
use web::{ApiError, FieldError};

use crate::definition::NewFeatureView;
use crate::dtype::Dtype;
use crate::table::{LOCAL_CATALOG, TableRef};

/// A feature view to create, or to put in the place of one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateFeatureViewRequest {
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
    pub(super) fn parse(self) -> Result<NewFeatureView, ApiError> {
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
