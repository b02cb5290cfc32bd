//! The online store over HTTP: what the Feast SDK's remote online store calls, and people too.
//!
//! The bodies are Feast's own (`feast/feature_server.py`). SDKs before 0.6x send JSON without
//! saying so, so the content type is not looked at; the door refuses pages of other sites.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{self, Object, Required};
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, Code, Json, Permission, Routes, Timestamp};

use super::arriving::{Arrived, Read};
use super::materialize;
use super::stream::sent;
use crate::FeatureStore;
use crate::online::{Destination, OnlineAnswer, OnlineRequest};
use crate::registry::PROJECT;

/// An answer that is not longer is sent at once.
const SENT_BYTES: usize = 1024 * 1024;

/// Where the values of any project are.
const PROJECT_BASE: &str = "/feast/projects/{project}";

pub(super) fn routes(routes: Routes<FeatureStore>) -> Routes<FeatureStore> {
    let (read, write) = (Permission::ReadFeatures, Permission::WriteFeatures);
    // Feast's servers have one project each; here those of others have paths of their own.
    ["/feast", PROJECT_BASE]
        .into_iter()
        .fold(routes, |routes, base| {
            let at = |name: &str| format!("{base}/{name}");
            routes
                .post(&at("get-online-features"), read, get)
                .post(&at("push"), write, push)
                .post(&at("write-to-online-store"), write, write_to_online_store)
                .post(&at("materialize"), write, materialize::materialize)
                .post(
                    &at("materialize-incremental"),
                    write,
                    materialize::materialize_incremental,
                )
        })
}

#[derive(OpenApi)]
#[openapi(paths(
    get,
    push,
    write_to_online_store,
    materialize::materialize,
    materialize::materialize_incremental
))]
struct Api;

/// The description of these routes, under both of their paths.
pub(super) fn openapi() -> openapi::OpenApi {
    let mut api = Api::openapi();
    let project = ParameterBuilder::new()
        .name("project")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(Object::with_type(Type::String)))
        .build();
    let of_project = api.paths.paths.iter().map(|(path, item)| {
        let mut item = item.clone();
        if let Some(post) = &mut item.post {
            post.parameters
                .get_or_insert_default()
                .push(project.clone());
        }
        (path.replacen("/feast", PROJECT_BASE, 1), item)
    });
    let of_project: Vec<_> = of_project.collect();
    api.paths.paths.extend(of_project);
    api
}

/// The project of a path, or the one of everything that is defined over REST.
pub(super) struct Project(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Project {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let named = RawPathParams::from_request_parts(parts, state).await;
        let named = named.map_err(|error| ApiError::new(Code::Invalid, error.to_string()))?;
        let named = named.iter().find(|(name, _)| *name == "project");
        Ok(Self(named.map_or(PROJECT, |(_, value)| value).to_owned()))
    }
}

pub(super) fn now_us() -> i64 {
    Timestamp::now().0.saturating_mul(1000)
}

#[derive(Debug, Deserialize, ToSchema)]
struct OnlineFeaturesRequest {
    /// Join keys by name, each with a list of values: one for each entity.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    entities: BTreeMap<String, Vec<Value>>,
    /// `VIEW:FEATURE`.
    #[serde(default)]
    features: Vec<String>,
    /// A feature service instead.
    feature_service: Option<String>,
    /// Whether features are called `VIEW__FEATURE`.
    #[serde(default)]
    full_feature_names: bool,
    /// Whether the metadata name the views that were read.
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

/// A column of the answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only: the answer is written by hand")]
struct OnlineColumn {
    #[schema(value_type = Vec<Value>)]
    values: Vec<Value>,
    /// `PRESENT`, `NOT_FOUND`, `OUTSIDE_MAX_AGE`.
    statuses: Vec<String>,
    event_timestamps: Vec<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "described only: the answer is written by hand")]
struct OnlineMetadata {
    /// The names of the columns, in their order.
    feature_names: Vec<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "described only: the answer is written by hand")]
struct OnlineFeaturesResponse {
    results: Vec<OnlineColumn>,
    metadata: OnlineMetadata,
}

/// The newest values of entities.
#[utoipa::path(post, path = "/feast/get-online-features", tag = "features", request_body = OnlineFeaturesRequest,
    responses((status = 200, body = OnlineFeaturesResponse), (status = 400, description = "a join key is missing or cannot match"), (status = 404, description = "no such view or service"), (status = 422, description = "a field is missing or wrong")))]
async fn get(
    State(store): State<FeatureStore>,
    project: Project,
    body: Arrived,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let Read {
        value: request,
        held: _held,
    } = body.json::<OnlineFeaturesRequest>(&store).await?;
    let request = OnlineRequest {
        project: project.0,
        entities: request.entities,
        features: request.features,
        feature_service: request.feature_service,
        full_feature_names: request.full_feature_names,
        name_views: request.include_feature_view_version_metadata,
    };
    let answer = store.online_features(request, now_us()).await?;
    metrics::histogram!("feast_online_latency_seconds").record(started.elapsed().as_secs_f64());
    let mut response = Response::new(answered(&store, answer));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// A longer answer holds its memory until it is sent, or waits elsewhere.
fn answered(store: &FeatureStore, answer: OnlineAnswer) -> Body {
    if answer.json.len() <= SENT_BYTES {
        return answer.json.into();
    }
    let held = answer.held;
    let json = stream::once(std::future::ready(Ok(Bytes::from(answer.json))));
    sent(store, json.inspect(move |_| _ = &held))
}

#[derive(Debug, Deserialize, ToSchema)]
struct PushRequest {
    /// A push source, or a feature view.
    push_source_name: String,
    /// The rows by column: join keys, features, the time of the event.
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    df: BTreeMap<String, Vec<Value>>,
    /// `online`, `offline` (the view's table), `online_and_offline`.
    #[serde(default = "online")]
    to: String,
}

fn online() -> String {
    "online".to_owned()
}

#[derive(Debug, Serialize, ToSchema)]
struct PushResponse {
    written: Vec<WrittenResponse>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WrittenResponse {
    feature_view: String,
    rows: usize,
    /// Rows that were newer than what the online store had.
    newer: usize,
}

/// Writes rows into the views that a push source feeds.
#[utoipa::path(post, path = "/feast/push", tag = "features", request_body = PushRequest,
    responses((status = 200, body = PushResponse), (status = 400, description = "a column is missing or a value does not fit"), (status = 404, description = "no view has that source"), (status = 422, description = "a field is missing or wrong")))]
async fn push(
    State(store): State<FeatureStore>,
    project: Project,
    body: Arrived,
) -> Result<Json<PushResponse>, ApiError> {
    let Read {
        value: request,
        held: _held,
    } = body.json::<PushRequest>(&store).await?;
    let to = Destination::parse(&request.to)?;
    let written = store
        .push(&project.0, &request.push_source_name, &request.df, to)
        .await?;
    let written = written
        .into_iter()
        .map(|(feature_view, done)| WrittenResponse {
            feature_view,
            rows: done.rows,
            newer: done.newer,
        });
    Ok(Json(PushResponse {
        written: written.collect(),
    }))
}

#[derive(Debug, Deserialize, ToSchema)]
struct WriteRequest {
    feature_view_name: String,
    /// The rows by column: join keys, features, the time of the event.
    #[schema(value_type = BTreeMap<String, Vec<Value>>)]
    df: BTreeMap<String, Vec<Value>>,
}

/// Writes rows into the online store of a view. An older row never takes a newer one's place.
#[utoipa::path(post, path = "/feast/write-to-online-store", tag = "features", request_body = WriteRequest,
    responses((status = 200, body = WrittenResponse), (status = 400, description = "a column is missing or a value does not fit"), (status = 404, description = "no such view"), (status = 409, description = "the view was deleted, or got other join keys, meanwhile"), (status = 422, description = "a field is missing or wrong")))]
async fn write_to_online_store(
    State(store): State<FeatureStore>,
    project: Project,
    body: Arrived,
) -> Result<Json<WrittenResponse>, ApiError> {
    let Read {
        value: request,
        held: _held,
    } = body.json::<WriteRequest>(&store).await?;
    let name = request.feature_view_name;
    let done = store.write_online(&project.0, &name, &request.df).await?;
    Ok(Json(WrittenResponse {
        feature_view: name,
        rows: done.rows,
        newer: done.newer,
    }))
}
