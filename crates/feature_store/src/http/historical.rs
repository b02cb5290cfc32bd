//! `POST /feast/historical`: features joined to entity rows as they were known at their times.

use std::collections::BTreeMap;
use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, Caller, Code, Permission, Query, Routes, Timestamp};

use crate::FeatureStore;
use crate::error::Error;
use crate::historical::{EntityRows, EntityTable, FeatureRef, Historical, HistoricalRequest};
use crate::json;
use crate::registry::PROJECT;
use crate::table::{LOCAL_CATALOG, TableRef};

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    routes.post("/feast/historical", Permission::ReadFeatures, historical)
}

#[derive(OpenApi)]
#[openapi(paths(historical), components(schemas(HistoricalBody)))]
pub(super) struct Api;

/// What is wanted: in the JSON body, or in the query when the body is a table.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct HistoricalQuery {
    /// `VIEW:FEATURE` separated by commas.
    features: Option<String>,
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    /// The form of the answer: `json`, `csv`, `parquet`, `arrow`; absent: JSON for JSON, else
    /// the form of the body.
    format: Option<String>,
}

/// A read of features.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HistoricalBody {
    /// `VIEW:FEATURE`.
    #[serde(default)]
    features: Vec<String>,
    /// A feature service instead.
    feature_service: Option<String>,
    /// `{"column": [values]}` or `[{"column": value}]`, with `event_timestamp` in ISO 8601.
    #[schema(value_type = Option<Object>)]
    entities: Option<Value>,
    /// An Iceberg table with such rows instead.
    entity_table: Option<EntityTableBody>,
    #[serde(default)]
    full_feature_names: bool,
    /// `json`, `csv`, `parquet`, `arrow`.
    format: Option<String>,
    /// The snapshot to read a view at, by the view's name; absent: the newest.
    #[serde(default)]
    snapshots: BTreeMap<String, i64>,
}

/// A table of entity rows.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EntityTableBody {
    schema: String,
    #[serde(alias = "table")]
    table_name: String,
    catalog: Option<String>,
    /// Absent or empty: all.
    #[serde(default)]
    columns: Vec<String>,
    /// Absent: the newest.
    snapshot_id: Option<i64>,
}

impl EntityTableBody {
    fn parse(self) -> EntityTable {
        EntityTable {
            table: TableRef {
                catalog: self.catalog.unwrap_or_else(|| LOCAL_CATALOG.to_owned()),
                schema: self.schema,
                name: self.table_name,
            },
            columns: self.columns,
            snapshot: self.snapshot_id,
        }
    }
}

/// The forms of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Parquet,
    Arrow,
}

const FORMS: [(Form, &str, &str); 4] = [
    (Form::Json, "json", "application/json"),
    (Form::Csv, "csv", "text/csv"),
    (Form::Parquet, "parquet", "application/vnd.apache.parquet"),
    (Form::Arrow, "arrow", "application/vnd.apache.arrow.stream"),
];

impl Form {
    fn named(name: &str) -> Result<Self, Error> {
        let found = FORMS
            .iter()
            .find(|(_, n, _)| *n == name)
            .map(|(form, ..)| *form);
        found.ok_or_else(|| {
            Error::Invalid(format!(
                "format {name:?} is none of json, csv, parquet, arrow"
            ))
        })
    }

    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let value = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        let value = value
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let found = FORMS
            .iter()
            .find(|(.., kind)| *kind == value)
            .map(|(form, ..)| *form);
        found.ok_or_else(|| {
            let kinds = FORMS.map(|(.., kind)| kind).join(", ");
            ApiError::new(
                Code::UnsupportedMediaType,
                format!("the content type {value:?} is none of {kinds}"),
            )
        })
    }

    fn media_type(self) -> &'static str {
        FORMS
            .iter()
            .find(|(form, ..)| *form == self)
            .map_or("", |(.., kind)| kind)
    }
}

/// Joins features to entity rows as they were known at the rows' times. Every row comes back
/// once and in its place. The header `x-asgard-snapshots` (in JSON answers also a field) tells
/// which snapshot of each view was read.
#[utoipa::path(post, path = "/feast/historical", tag = "features", params(HistoricalQuery),
    request_body(content((HistoricalBody = "application/json"), ("text/csv"), ("application/vnd.apache.parquet"), ("application/vnd.apache.arrow.stream"))),
    responses((status = 200), (status = 400, description = "a key, time or feature is missing or cannot match"), (status = 404, description = "no such view")))]
async fn historical(
    State(store): State<FeatureStore>,
    Caller(caller): Caller,
    Query(query): Query<HistoricalQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let given = Form::of(&headers)?;
    let (wanted, entities) = if given == Form::Json {
        let mut wanted: HistoricalBody = serde_json::from_slice(&body).map_err(|error| {
            ApiError::new(
                Code::Unprocessable,
                format!("the body is not as documented: {error}"),
            )
        })?;
        let entities = entities_of(&store, &mut wanted).await?;
        (wanted, entities)
    } else {
        let list = query.features.unwrap_or_default();
        let features = list.split(',').filter(|f| !f.is_empty()).map(str::to_owned);
        let wanted = HistoricalBody {
            features: features.collect(),
            feature_service: query.feature_service,
            entities: None,
            entity_table: None,
            full_feature_names: query.full_feature_names,
            format: query.format,
            snapshots: BTreeMap::new(),
        };
        (wanted, EntityRows::new(read(given, body)?)?)
    };
    let answer = wanted
        .format
        .as_deref()
        .map(Form::named)
        .transpose()?
        .unwrap_or(given);
    let request = resolve(&store, wanted, entities).await?;
    let found = store.historical(request).await?;
    store.note_read(&caller, &found, Timestamp::now().0).await?;
    respond(answer, &found)
}

async fn entities_of(
    store: &FeatureStore,
    wanted: &mut HistoricalBody,
) -> Result<EntityRows, Error> {
    match (wanted.entities.take(), wanted.entity_table.take()) {
        (Some(entities), None) => EntityRows::new(json::to_batch(entities)?),
        (None, Some(table)) => store.entity_rows(&table.parse()).await,
        _ => Err(Error::Invalid(
            "give either entities, the rows that features are joined to, or entity_table, a table with such rows"
                .to_owned(),
        )),
    }
}

async fn resolve(
    store: &FeatureStore,
    wanted: HistoricalBody,
    entities: EntityRows,
) -> Result<HistoricalRequest, Error> {
    let mut views = match (&wanted.feature_service, wanted.features.as_slice()) {
        (Some(service), []) => store.resolve_service(PROJECT, service).await?,
        (None, refs) if !refs.is_empty() => {
            let refs = refs
                .iter()
                .map(|f| FeatureRef::parse(f))
                .collect::<Result<Vec<_>, _>>()?;
            store.resolve(PROJECT, &refs).await?
        }
        _ => return Err(Error::nothing_asked()),
    };
    for (name, snapshot) in &wanted.snapshots {
        let view = views.iter_mut().find(|used| used.alias == *name);
        let view = view.ok_or_else(|| {
            Error::Invalid(format!("snapshots names {name:?}, a view that is not read"))
        })?;
        view.snapshot = Some(*snapshot);
    }
    Ok(HistoricalRequest {
        entities,
        views,
        full_feature_names: wanted.full_feature_names,
    })
}

fn read(form: Form, body: Bytes) -> Result<RecordBatch, Error> {
    fn failed<E: std::error::Error + Send + Sync + 'static>(
        format: &'static str,
    ) -> impl FnOnce(E) -> Error {
        move |source| Error::File {
            format,
            source: Box::new(source),
        }
    }
    let (schema, batches) = match form {
        Form::Parquet => {
            let builder =
                ParquetRecordBatchReaderBuilder::try_new(body).map_err(failed("Parquet"))?;
            let schema = builder.schema().clone();
            let reader = builder.build().map_err(failed("Parquet"))?;
            (
                schema,
                reader
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(failed("Parquet"))?,
            )
        }
        Form::Arrow => {
            let reader = arrow_ipc::reader::StreamReader::try_new(Cursor::new(body), None)
                .map_err(failed("an Arrow stream"))?;
            let schema = reader.schema();
            (
                schema,
                reader
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(failed("an Arrow stream"))?,
            )
        }
        Form::Csv | Form::Json => {
            let format = arrow_csv::reader::Format::default().with_header(true);
            let (schema, _) = format
                .infer_schema(Cursor::new(&body), None)
                .map_err(failed("CSV"))?;
            let schema = std::sync::Arc::new(schema);
            let reader = arrow_csv::ReaderBuilder::new(schema.clone())
                .with_format(format)
                .build(Cursor::new(&body))
                .map_err(failed("CSV"))?;
            (
                schema,
                reader
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(failed("CSV"))?,
            )
        }
    };
    Ok(concat_batches(&schema, &batches)?)
}

fn respond(form: Form, found: &Historical) -> Result<Response, ApiError> {
    let snapshots: serde_json::Map<String, Value> = found
        .snapshots
        .iter()
        .map(|(view, _, id)| (view.clone(), json!(id)))
        .collect();
    let header_value = HeaderValue::from_str(&Value::from(snapshots.clone()).to_string());
    let body = match form {
        Form::Json => {
            let schema = found.rows.schema();
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let body = json!({
                "columns": columns,
                "data": json::from_batch(&found.rows)?,
                "row_count": found.rows.num_rows(),
                "snapshots": snapshots,
            });
            body.to_string().into_bytes()
        }
        Form::Csv => {
            let mut body = Vec::new();
            let mut writer = arrow_csv::Writer::new(&mut body);
            writer.write(&found.rows).map_err(Error::from)?;
            drop(writer);
            body
        }
        Form::Parquet => parquet(&found.rows)?,
        Form::Arrow => {
            let mut body = Vec::new();
            let schema: &Schema = &found.rows.schema();
            let mut writer =
                arrow_ipc::writer::StreamWriter::try_new(&mut body, schema).map_err(Error::from)?;
            writer.write(&found.rows).map_err(Error::from)?;
            writer.finish().map_err(Error::from)?;
            drop(writer);
            body
        }
    };
    let mut response = ([(header::CONTENT_TYPE, form.media_type())], body).into_response();
    // Names beyond ASCII do not fit into a header; JSON answers have them in the body.
    if let Ok(value) = header_value {
        response.headers_mut().insert("x-asgard-snapshots", value);
    }
    Ok(response)
}

fn parquet(rows: &RecordBatch) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File {
        format: "Parquet",
        source: Box::new(source),
    };
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, rows.schema(), None).map_err(failed)?;
    writer.write(rows).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(body)
}
