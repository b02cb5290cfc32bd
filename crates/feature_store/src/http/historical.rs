//! `POST /feast/historical`: features joined to entity rows as they were known at their times.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, Caller, Identity, Permission, Query, Routes, Timestamp};

use super::arriving::Arrived;
use super::form::Form;
use super::json_answer::JsonAnswer;
use super::stream::{self, in_background};
use crate::FeatureStore;
use crate::answers::{Held, bytes_of};
use crate::error::Error;
use crate::historical::{
    EntityRows, EntityTable, FeatureRef, Historical, HistoricalRequest, RangeRequest, Views,
};
use crate::json;
use crate::online::parse_time;
use crate::registry::PROJECT;
use crate::table::{LOCAL_CATALOG, TableRef};

/// The most rows between two times that are answered in JSON.
const MOST_JSON_ROWS: usize = 1_000_000;

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
    #[schema(value_type = Option<Value>)]
    entities: Option<Value>,
    /// An Iceberg table with such rows instead.
    entity_table: Option<EntityTableBody>,
    /// Without entity rows: all that lies between two times, ISO 8601, both inclusive. Absent: the
    /// longest ttl of the views before the end, or 30 days.
    start_date: Option<String>,
    /// Absent, with `start_date`: now.
    end_date: Option<String>,
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

/// The rows by column, in JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only: the answer is written by hand")]
struct HistoricalResponse {
    columns: Vec<String>,
    /// The values of each column, in the order of the rows.
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    data: BTreeMap<String, Vec<Value>>,
    row_count: u64,
    /// The snapshot that each view was read at.
    snapshots: BTreeMap<String, i64>,
}

/// Joins features to entity rows as they were known at the rows' times. Every row comes back
/// once and in its place. The header `x-asgard-snapshots` (in JSON answers also a field) tells
/// which snapshot of each view was read.
#[utoipa::path(post, path = "/feast/historical", tag = "features", params(HistoricalQuery),
    request_body(content((HistoricalBody = "application/json"), ("text/csv"), ("application/vnd.apache.parquet"), ("application/vnd.apache.arrow.stream"))),
    responses((status = 200, description = "the rows, in the form that was asked for", content((HistoricalResponse = "application/json"), (String = "text/csv"), (Vec<u8> = "application/vnd.apache.parquet"), (Vec<u8> = "application/vnd.apache.arrow.stream"))),
        (status = 400, description = "a key, time or feature is missing or cannot match"), (status = 404, description = "no such view"), (status = 422, description = "a field is missing or wrong"), (status = 503, description = "too much is read at once; Retry-After tells when to ask again")))]
async fn historical(
    State(store): State<FeatureStore>,
    Caller(caller): Caller,
    Query(query): Query<HistoricalQuery>,
    headers: HeaderMap,
    body: Arrived,
) -> Result<Response, ApiError> {
    let given = Form::of(&headers)?;
    // Until its rows are part of an answer, which holds memory of its own.
    let held = body.held.clone();
    let (wanted, entities, rows_held) = if given == Form::Json {
        let read = body.json::<HistoricalBody>(&store).await?;
        let mut wanted = read.value;
        if wanted.start_date.is_some() || wanted.end_date.is_some() {
            return between(&store, &caller, wanted).await;
        }
        let (entities, rows_held) = entities_of(&store, &mut wanted, read.held).await?;
        (wanted, entities, rows_held)
    } else {
        let list = query.features.unwrap_or_default();
        let features = list.split(',').filter(|f| !f.is_empty()).map(str::to_owned);
        let wanted = HistoricalBody {
            features: features.collect(),
            feature_service: query.feature_service,
            entities: None,
            entity_table: None,
            start_date: None,
            end_date: None,
            full_feature_names: query.full_feature_names,
            format: query.format,
            snapshots: BTreeMap::new(),
        };
        let room = held.clone();
        let read = move || EntityRows::new(given.read(body.bytes, &room)?);
        (wanted, in_background(read).await?, None)
    };
    if rows_held.is_none() {
        held.keep(bytes_of(&entities.batch))?;
    }
    let held = (held, rows_held);
    let answer = wanted
        .format
        .as_deref()
        .map(Form::named)
        .transpose()?
        .unwrap_or(given);
    let request = HistoricalRequest {
        entities,
        views: resolve(&store, &wanted).await?,
        full_feature_names: wanted.full_feature_names,
    };
    let now = Timestamp::now().0;
    if answer == Form::Json {
        let found = store.historical(request).await?;
        drop(held);
        store.note_read(&caller, &found, now).await?;
        return respond(&store, found).await;
    }
    let found = store.historical_in_parts(request).await?;
    store.note_read(&caller, &found.about, now).await?;
    let schema = found.schema();
    let batches = found.batches.inspect(move |_| {
        // The entity rows of the parts that are not read yet.
        let _held = &held;
    });
    let body = stream::body(&store, answer, schema, batches.boxed()).await?;
    Ok(response(answer, body, &snapshots(&found.about)))
}

/// The entity rows of a body, and the memory that is held for those of a table.
async fn entities_of(
    store: &FeatureStore,
    wanted: &mut HistoricalBody,
    read: Arc<Held>,
) -> Result<(EntityRows, Option<Arc<Held>>), Error> {
    match (wanted.entities.take(), wanted.entity_table.take()) {
        (Some(entities), None) => {
            let rows = in_background(move || {
                // Also when nobody waits for it any more.
                let _read = read;
                EntityRows::new(json::to_batch(entities)?)
            });
            Ok((rows.await?, None))
        }
        (None, Some(table)) => {
            drop(read);
            let rows = store.entity_rows(&table.parse()).await?;
            let held = store.requests.hold(bytes_of(&rows.batch)).await?;
            Ok((rows, Some(held)))
        }
        _ => Err(Error::Invalid(
            "give either entities, the rows that features are joined to, or entity_table, a table with such rows; or start_date and end_date for all rows between them"
                .to_owned(),
        )),
    }
}

async fn resolve(store: &FeatureStore, wanted: &HistoricalBody) -> Result<Views, Error> {
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
        let view = views.views.iter_mut().find(|used| used.alias == *name);
        let view = view.ok_or_else(|| {
            Error::Invalid(format!("snapshots names {name:?}, a view that is not read"))
        })?;
        view.snapshot = Some(*snapshot);
    }
    Ok(views)
}

/// Answers with what lies between two times, sent while it is read where the form allows it.
async fn between(
    store: &FeatureStore,
    caller: &Identity,
    wanted: HistoricalBody,
) -> Result<Response, ApiError> {
    if wanted.entities.is_some() || wanted.entity_table.is_some() {
        return Err(ApiError::from(Error::Invalid(
            "start_date and end_date are for reads without entity rows: leave entities and entity_table out"
                .to_owned(),
        )));
    }
    let form = wanted.format.as_deref().map(Form::named).transpose()?;
    let form = form.unwrap_or(Form::Json);
    let now = Timestamp::now().0;
    let request = RangeRequest {
        views: resolve(store, &wanted).await?,
        start_us: time(wanted.start_date.as_deref())?,
        end_us: time(wanted.end_date.as_deref())?.unwrap_or(now.saturating_mul(1000)),
        full_feature_names: wanted.full_feature_names,
        kept_rows: match form {
            Form::Json => MOST_JSON_ROWS,
            _ => 0,
        },
    };
    let mut found = store.historical_range(request).await?;
    store.note_read(caller, &found.about, now).await?;
    if form == Form::Json {
        found.about.rows = gather(found.schema(), found.batches).await?;
        return respond(store, found.about).await;
    }
    let body = stream::body(store, form, found.schema(), found.batches).await?;
    Ok(response(form, body, &snapshots(&found.about)))
}

fn time(text: Option<&str>) -> Result<Option<i64>, Error> {
    let time = |text| {
        parse_time(text)
            .ok_or_else(|| Error::Invalid(format!("{text:?} is no time: give ISO 8601")))
    };
    text.map(time).transpose()
}

/// The rows of an answer in JSON, which says of each column all that is in it.
async fn gather(
    schema: SchemaRef,
    mut batches: BoxStream<'static, Result<RecordBatch, Error>>,
) -> Result<RecordBatch, Error> {
    let (mut kept, mut rows) = (Vec::new(), 0);
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
        if rows > MOST_JSON_ROWS {
            return Err(Error::too_many_in_json(MOST_JSON_ROWS));
        }
        kept.push(batch);
    }
    Ok(concat_batches(&schema, &kept)?)
}

fn snapshots(found: &Historical) -> Map<String, Value> {
    let snapshots = found.snapshots.iter();
    snapshots
        .map(|(view, _, id)| (view.clone(), json!(id)))
        .collect()
}

/// An answer in JSON.
async fn respond(store: &FeatureStore, found: Historical) -> Result<Response, ApiError> {
    let snapshots = snapshots(&found);
    let answer = JsonAnswer {
        rows: found.rows,
        _held: found.held,
        behind: Map::from_iter([("snapshots".to_owned(), snapshots.clone().into())]),
    };
    let body = answer.body(store).await?;
    Ok(response(Form::Json, body, &snapshots))
}

fn response(form: Form, body: Body, snapshots: &Map<String, Value>) -> Response {
    let header_value = HeaderValue::from_str(&Value::from(snapshots.clone()).to_string());
    let mut response = ([(header::CONTENT_TYPE, form.media_type())], body).into_response();
    // Names beyond ASCII do not fit into a header; JSON answers have them in the body.
    if let Ok(value) = header_value {
        response.headers_mut().insert("x-asgard-snapshots", value);
    }
    response
}
