//! Loads of tables into the online store over HTTP: `/feast/materialize` and its kin, as Feast's own
//! server has them.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Json, Query, Timestamp};

use super::arriving::{Arrived, Read};
use super::online::{Project, now_us};
use crate::FeatureStore;
use crate::error::Error;
use crate::online::{Materialized, Span, parse_time};

#[derive(Debug, Deserialize, ToSchema)]
struct MaterializeRequest {
    /// ISO 8601; the earliest time of an event.
    start_ts: Option<String>,
    /// ISO 8601; the latest time of an event. Absent: now.
    end_ts: Option<String>,
    /// Absent: all views with `online: true`.
    feature_views: Option<Vec<String>>,
    /// Load all times.
    #[serde(default)]
    disable_event_timestamp: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MaterializeQuery {
    /// Answer at once and load afterwards; `/feast/features/NAME/materializations` tells the end.
    #[serde(default, rename = "async")]
    #[param(rename = "async", default = false)]
    is_async: bool,
}

/// Loads that have begun.
#[derive(Debug, Serialize, ToSchema)]
struct AcceptedResponse {
    /// `accepted`.
    status: &'static str,
    feature_views: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct MaterializeResponse {
    materialized: Vec<MaterializedResponse>,
    duration_seconds: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct MaterializedResponse {
    feature_view: String,
    /// `full`; `appended`: only what was added to the table since; `nothing`: nothing was.
    mode: &'static str,
    /// The snapshot of the table that was read.
    snapshot_id: Option<i64>,
    rows_read: u64,
    /// Entities whose newest row is another one now.
    entities_written: usize,
    /// Entities in the online store.
    entities: usize,
}

impl From<Materialized> for MaterializedResponse {
    fn from(done: Materialized) -> Self {
        Self {
            feature_view: done.view,
            mode: done.mode.as_str(),
            snapshot_id: done.snapshot_id,
            rows_read: done.rows_read,
            entities_written: done.entities_written,
            entities: done.entities,
        }
    }
}

/// Loads the newest rows of a span of time into the online store.
#[utoipa::path(post, path = "/feast/materialize", tag = "features", params(MaterializeQuery), request_body = MaterializeRequest,
    responses((status = 200, body = MaterializeResponse), (status = 202, body = AcceptedResponse), (status = 400, description = "a time is missing or is none"), (status = 404, description = "no such view"), (status = 409, description = "it is being done already"), (status = 422, description = "a field is missing or wrong")))]
pub(super) async fn materialize(
    State(store): State<FeatureStore>,
    project: Project,
    Query(query): Query<MaterializeQuery>,
    body: Arrived,
) -> Result<Response, ApiError> {
    let Read {
        value: request,
        held: _held,
    } = body.json::<MaterializeRequest>(&store).await?;
    let start_us = match &request.start_ts {
        _ if request.disable_event_timestamp => i64::MIN,
        Some(text) => time(text, "start_ts")?,
        None => {
            return Err(Error::Invalid(
                "start_ts is missing: give ISO 8601, or use /feast/materialize-incremental"
                    .to_owned(),
            )
            .into());
        }
    };
    run(&store, &project, &query, request, Some(start_us)).await
}

/// Loads what came since the last time into the online store.
#[utoipa::path(post, path = "/feast/materialize-incremental", tag = "features", params(MaterializeQuery), request_body = MaterializeRequest,
    responses((status = 200, body = MaterializeResponse), (status = 202, body = AcceptedResponse), (status = 400, description = "a time is missing or is none"), (status = 404, description = "no such view"), (status = 409, description = "it is being done already"), (status = 422, description = "a field is missing or wrong")))]
pub(super) async fn materialize_incremental(
    State(store): State<FeatureStore>,
    project: Project,
    Query(query): Query<MaterializeQuery>,
    body: Arrived,
) -> Result<Response, ApiError> {
    let Read {
        value: request,
        held: _held,
    } = body.json::<MaterializeRequest>(&store).await?;
    run(&store, &project, &query, request, None).await
}

async fn run(
    store: &FeatureStore,
    project: &Project,
    query: &MaterializeQuery,
    request: MaterializeRequest,
    start_us: Option<i64>,
) -> Result<Response, ApiError> {
    let end_us = match &request.end_ts {
        Some(text) if !request.disable_event_timestamp => time(text, "end_ts")?,
        _ => now_us(),
    };
    let span = Span { start_us, end_us };
    let started = Instant::now();
    let names = request.feature_views;
    let now = Timestamp::now().0;
    if query.is_async {
        let names = store
            .materialize_later(&project.0, names.as_deref(), span, now)
            .await?;
        let accepted = AcceptedResponse {
            status: "accepted",
            feature_views: names,
        };
        return Ok((StatusCode::ACCEPTED, Json(accepted)).into_response());
    }
    // A task of its own: a client that hangs up does not leave a load in the middle.
    let (loader, project) = (store.clone(), project.0.clone());
    let load = store.tasks.spawn(async move {
        let load = Box::pin(loader.materialize(&project, names.as_deref(), span, now));
        loader.stop.run_until_cancelled(load).await
    });
    let done = match load.await {
        Ok(Some(done)) => done?,
        Ok(None) => return Err(Error::stopping().into()),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    };
    Ok(Json(MaterializeResponse {
        materialized: done.into_iter().map(Into::into).collect(),
        duration_seconds: started.elapsed().as_secs_f64(),
    })
    .into_response())
}

fn time(text: &str, name: &str) -> Result<i64, Error> {
    parse_time(text).ok_or_else(|| Error::Invalid(format!("{name}: {text:?} is not ISO 8601")))
}
