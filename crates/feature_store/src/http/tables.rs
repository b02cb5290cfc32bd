//! `/feast/tables`: the Iceberg tables that features can come from, and files into tables.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, Code, Json, Path, Permission, Query, Routes};

use super::incoming::{Incoming, Limit};
use crate::FeatureStore;
use crate::import::FileFormat;
use crate::table::{self, LOCAL_CATALOG, TableRef};

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    let one = "/feast/tables/{schema}/{table}";
    routes
        .get("/feast/tables", Permission::ReadFeatures, list)
        .get(one, Permission::ReadFeatures, get)
        .post(one, Permission::WriteFeatures, import)
}

#[derive(OpenApi)]
#[openapi(paths(list, get, import))]
pub(super) struct Api;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct CatalogQuery {
    /// The catalog; absent: the local one.
    catalog: Option<String>,
}

impl CatalogQuery {
    fn name(self) -> String {
        self.catalog.unwrap_or_else(|| LOCAL_CATALOG.to_owned())
    }

    fn table(self, (schema, name): (String, String)) -> TableRef {
        TableRef {
            catalog: self.name(),
            schema,
            name,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct TablesResponse {
    tables: Vec<TableRef>,
    total_count: usize,
}

/// Lists the tables of a catalog.
#[utoipa::path(get, path = "/feast/tables", tag = "features", params(CatalogQuery), responses((status = 200, body = TablesResponse), (status = 400, description = "no such catalog")))]
async fn list(
    State(store): State<FeatureStore>,
    Query(query): Query<CatalogQuery>,
) -> Result<Json<TablesResponse>, ApiError> {
    let tables = store.catalogs.tables(&query.name()).await?;
    Ok(Json(TablesResponse {
        total_count: tables.len(),
        tables,
    }))
}

#[derive(Debug, Serialize, ToSchema)]
struct TableResponse {
    #[serde(flatten)]
    table: TableRef,
    columns: Vec<ColumnResponse>,
    /// The state of the table that a read would see.
    snapshot_id: Option<i64>,
    snapshots: usize,
    location: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ColumnResponse {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    required: bool,
}

/// Shows a table's columns.
#[utoipa::path(get, path = "/feast/tables/{schema}/{table}", tag = "features", params(CatalogQuery),
    responses((status = 200, body = TableResponse), (status = 400, description = "no such catalog"), (status = 404, description = "no such table; lists those that there are")))]
async fn get(
    State(store): State<FeatureStore>,
    Path(path): Path<(String, String)>,
    Query(query): Query<CatalogQuery>,
) -> Result<Json<TableResponse>, ApiError> {
    let name = query.table(path);
    let opened = store.catalogs.table(&name).await?;
    let columns = table::columns(&opened)
        .into_iter()
        .map(|column| ColumnResponse {
            kind: column.kind.to_string(),
            name: column.name,
            required: column.required,
        });
    let metadata = opened.metadata();
    Ok(Json(TableResponse {
        table: name,
        columns: columns.collect(),
        snapshot_id: metadata.current_snapshot_id(),
        snapshots: metadata.snapshots().len(),
        location: metadata.location().to_owned(),
    }))
}

#[derive(Debug, Serialize, ToSchema)]
struct ImportResponse {
    #[serde(flatten)]
    table: TableRef,
    /// The rows of this file.
    rows: u64,
    /// Whether the table was made for it.
    created: bool,
    snapshot_id: i64,
    columns: Vec<ColumnTypeResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ColumnTypeResponse {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Appends the rows of a Parquet or CSV file to a table, which is made when it is not there.
#[utoipa::path(post, path = "/feast/tables/{schema}/{table}", tag = "features", params(CatalogQuery),
    request_body(content(("text/csv"), ("application/vnd.apache.parquet"))),
    responses((status = 201, body = ImportResponse), (status = 400, description = "the file cannot be read or does not fit the table"),
        (status = 413, description = "the file is larger than feature_store.import_limit_bytes")))]
async fn import(
    State(store): State<FeatureStore>,
    Path(path): Path<(String, String)>,
    Query(query): Query<CatalogQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ImportResponse>), ApiError> {
    let table = query.table(path);
    let format = format_of(&headers)?;
    let limit = Limit(store.import_limit_bytes);
    limit.check_announced(&headers)?;
    let file = Incoming::receive(store.catalogs.scratch(), body, limit).await?;
    let imported = store.catalogs.import(&file.path, format, &table).await?;
    let columns = imported.columns.into_iter();
    let response = ImportResponse {
        table,
        rows: imported.rows,
        created: imported.created,
        snapshot_id: imported.snapshot_id,
        columns: columns
            .map(|(name, kind)| ColumnTypeResponse { name, kind })
            .collect(),
    };
    Ok((StatusCode::CREATED, Json(response)))
}

fn format_of(headers: &HeaderMap) -> Result<FileFormat, ApiError> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim() {
        "text/csv" => Ok(FileFormat::Csv),
        "application/vnd.apache.parquet" | "application/x-parquet" => Ok(FileFormat::Parquet),
        other => Err(ApiError::new(
            Code::UnsupportedMediaType,
            format!(
                "the content type {other:?} is neither text/csv nor application/vnd.apache.parquet"
            ),
        )
        .help(
            "curl --data-binary @FILE.csv -H 'Content-Type: text/csv' URL/feast/tables/gold/NAME",
        )),
    }
}
