//! `GET /mlops/deployments/{deployment_id}/logs`: at once or as it grows.

use std::convert::Infallible;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Json, Path, Query, Timestamp};

use crate::Deployments;
use crate::create::LOOK_AGAIN;
use crate::deployment::{Deployment, State as Stands};
use crate::log::Line;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// The number of the line to read after.
    #[param(default = 0)]
    after: Option<i64>,
    /// `true` streams the log as it grows, as the header `Accept: text/event-stream` does.
    follow: Option<bool>,
}

/// Part of a log.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeploymentLogs {
    deployment_id: String,
    lines: Vec<DeploymentLogLine>,
    /// What to ask for next.
    next_after: i64,
}

/// A line of a log.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeploymentLogLine {
    /// Lines count from 1; the first of a long log may be gone.
    line: i64,
    /// `platform`, or a replica.
    #[schema(example = "platform")]
    source: String,
    at: Timestamp,
    text: String,
}

impl From<Line> for DeploymentLogLine {
    fn from(line: Line) -> Self {
        Self {
            line: line.number,
            source: line.source,
            at: Timestamp(line.at),
            text: line.text,
        }
    }
}

/// The log of a deployment; with `Accept: text/event-stream` as it grows.
///
/// The events are `log` (its id is the line to go on after: `Last-Event-ID` resumes), `status`
/// when the deployment moves on, and `end` when it is deployed or failed. The output of a training
/// script is in the log of its job.
#[utoipa::path(
    get,
    path = "/mlops/deployments/{deployment_id}/logs",
    tag = "deployments",
    params(("deployment_id" = String, Path), LogsQuery),
    responses((status = 200, body = DeploymentLogs), (status = 404, description = "No such deployment"))
)]
pub(super) async fn logs(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
    Query(query): Query<LogsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deployment = deployments.get(&deployment_id).await?;
    let after = last_event_id(&headers).or(query.after).unwrap_or(0);
    if query.follow.unwrap_or(false) || accepts_events(&headers) {
        let events = Sse::new(follow(deployments, deployment, after));
        return Ok(events.keep_alive(KeepAlive::default()).into_response());
    }
    let lines = deployments.log_after(&deployment_id, after).await?;
    Ok(Json(DeploymentLogs {
        next_after: lines.last().map_or(after, |line| line.number),
        lines: lines.into_iter().map(DeploymentLogLine::from).collect(),
        deployment_id,
    })
    .into_response())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// The events of a deployment from a line on, until it has ended.
fn follow(
    deployments: Deployments,
    deployment: Deployment,
    after: i64,
) -> impl futures_util::Stream<Item = Result<Event, Infallible>> {
    stream! {
        let id = deployment.id;
        let mut changes = deployments.inner.changes.subscribe();
        let mut after = after;
        let mut told: Option<(Stands, Option<String>)> = None;
        loop {
            changes.mark_unchanged();
            // The state is read before the log: what was written before the end is all there then.
            let read = match deployments.get(&id).await {
                Ok(deployment) => Ok((deployment, deployments.log_after(&id, after).await)),
                Err(error) => Err(error),
            };
            let (deployment, lines) = match read {
                Ok((deployment, Ok(lines))) => (deployment, lines),
                Ok((_, Err(error))) | Err(error) => {
                    let data = json!({ "message": error.to_string() });
                    yield Ok(Event::default().event("error").data(data.to_string()));
                    return;
                }
            };
            let stands = (deployment.state, deployment.training_job_id.clone());
            if told.as_ref() != Some(&stands) {
                yield Ok(Event::default().event("status").data(status_of(&deployment)));
                told = Some(stands);
            }
            let caught_up = lines.is_empty();
            for line in lines {
                after = line.number;
                let event = Event::default().event("log").id(after.to_string());
                let data = serde_json::to_string(&DeploymentLogLine::from(line)).unwrap_or_default();
                yield Ok(event.data(data));
            }
            if caught_up && deployment.state.is_final() {
                yield Ok(Event::default().event("end").data(status_of(&deployment)));
                return;
            }
            if caught_up {
                // The sender lives as long as the deployments do.
                let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
            }
        }
    }
}

fn status_of(deployment: &Deployment) -> String {
    json!({
        "deployment_id": deployment.id,
        "status": deployment.state,
        "training_job_id": deployment.training_job_id,
        "model_version": deployment.model_version.map(|v| v.to_string()),
        "error": deployment.failure.as_ref().map(|failure| &failure.problem.message),
    })
    .to_string()
}
