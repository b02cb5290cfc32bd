//! `GET /mlops/deployments/{deployment_id}/logs`: at once or as it grows.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, EventHeaders, Followed, Json, Look, Path, Query, Timestamp};

use crate::Deployments;
use crate::deployment::Deployment;
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
    events: EventHeaders,
) -> Result<Response, ApiError> {
    deployments.get(&deployment_id).await?;
    let after = events.last_id.or(query.after).unwrap_or(0);
    if query.follow.unwrap_or(false) || events.wanted {
        let followed = FollowedDeployment {
            deployments,
            deployment_id,
        };
        return Ok(web::follow(followed, after));
    }
    let lines = deployments.log_after(&deployment_id, after).await?;
    Ok(Json(DeploymentLogs {
        next_after: lines.last().map_or(after, |line| line.number),
        lines: lines.into_iter().map(DeploymentLogLine::from).collect(),
        deployment_id,
    })
    .into_response())
}

/// A deployment whose log is read while it grows.
struct FollowedDeployment {
    deployments: Deployments,
    deployment_id: String,
}

impl Followed for FollowedDeployment {
    async fn look(&self, after: i64) -> Result<Look, ApiError> {
        let id = &self.deployment_id;
        let deployment = self.deployments.get(id).await?;
        let lines = self.deployments.log_after(id, after).await?;
        let event = |line: Line| (line.number, json!(DeploymentLogLine::from(line)));
        Ok(Look {
            status: status_of(&deployment),
            ended: deployment.state.is_final(),
            log: lines.into_iter().map(event).collect(),
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.deployments.inner.changes.subscribe()
    }
}

fn status_of(deployment: &Deployment) -> Value {
    json!({
        "deployment_id": deployment.id,
        "status": deployment.state,
        "training_job_id": deployment.training_job_id,
        "model_version": deployment.model_version.map(|v| v.to_string()),
        "error": deployment.failure.as_ref().map(|failure| &failure.problem.message),
    })
}
