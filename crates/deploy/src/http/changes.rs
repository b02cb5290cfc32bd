//! Changing deployments: replicas, traffic, rollback, removal.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{ApiError, Caller, FieldError, IdempotencyKey, Json, Path, Query};

use super::create::{DeployQuery, hold, wants_async};
use super::document::{DeploymentResponse, describe};
use crate::config::REPLICAS_MAX;
use crate::deployment::Plan;
use crate::{Deployments, create};

/// How many replicas there shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleRequest {
    #[schema(minimum = 1, maximum = 10, example = 3)]
    replicas: u32,
}

/// Changes the number of replicas of a live deployment.
#[utoipa::path(
    post,
    path = "/mlops/deployments/{deployment_id}/scale",
    tag = "deployments",
    params(("deployment_id" = String, Path)),
    request_body = ScaleRequest,
    responses(
        (status = 200, description = "It is stored; ready_replicas follows", body = DeploymentResponse),
        (status = 404, description = "No such deployment"),
        (status = 409, description = "It is not live, or the variables of its endpoint cannot be opened"),
        (status = 422, description = "Not a number from 1 to 10"),
    )
)]
pub(super) async fn scale(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
    Json(request): Json<ScaleRequest>,
) -> Result<Json<DeploymentResponse>, ApiError> {
    if !(1..=REPLICAS_MAX).contains(&request.replicas) {
        let message = format!("must be from 1 to {REPLICAS_MAX}");
        return Err(FieldError::body(["replicas"], message).into());
    }
    let deployment = deployments.scale(&deployment_id, request.replicas).await?;
    Ok(Json(describe(&deployments, deployment).await?))
}

/// Which share of its endpoint's requests a deployment shall get.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficRequest {
    #[schema(minimum = 0, maximum = 100, example = 25)]
    percent: u32,
}

/// Gives a live deployment a share of the requests; 100 promotes it, 0 takes it out.
#[utoipa::path(
    post,
    path = "/mlops/deployments/{deployment_id}/traffic",
    tag = "deployments",
    params(("deployment_id" = String, Path)),
    request_body = TrafficRequest,
    responses(
        (status = 200, body = DeploymentResponse),
        (status = 404, description = "No such deployment"),
        (status = 409, description = "It is not live, nobody could have the rest, or variables of who keeps a share cannot be opened"),
        (status = 422, description = "Not a number from 0 to 100"),
    )
)]
pub(super) async fn traffic(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
    Json(request): Json<TrafficRequest>,
) -> Result<Json<DeploymentResponse>, ApiError> {
    if request.percent > 100 {
        return Err(FieldError::body(["percent"], "must be from 0 to 100").into());
    }
    let deployment = deployments
        .set_traffic(&deployment_id, request.percent)
        .await?;
    Ok(Json(describe(&deployments, deployment).await?))
}

/// Where to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// A deployment of the same endpoint; absent: the one before.
    to: Option<String>,
}

/// Deploys again what the endpoint had before.
///
/// It is a deployment of its own, and takes the place of what is live when it is ready.
#[utoipa::path(
    post,
    path = "/mlops/deployments/{deployment_id}/rollback",
    tag = "deployments",
    params(("deployment_id" = String, Path), DeployQuery),
    request_body = RollbackRequest,
    responses(
        (status = 200, description = "It is deployed", body = DeploymentResponse),
        (status = 202, description = "It goes on", body = DeploymentResponse),
        (status = 404, description = "No such deployment"),
        (status = 409, description = "There is nothing to go back to"),
    )
)]
pub(super) async fn rollback(
    State(deployments): State<Deployments>,
    Caller(caller): Caller,
    Path(deployment_id): Path<String>,
    Query(query): Query<DeployQuery>,
    IdempotencyKey(key): IdempotencyKey,
    headers: HeaderMap,
    Json(request): Json<RollbackRequest>,
) -> Result<Response, ApiError> {
    let (id, label) = (caller.id(), caller.label());
    let caller = create::Caller {
        id: &id,
        label: &label,
        idempotency_key: key.as_deref(),
    };
    let to = request.to.as_deref();
    let deployment = deployments.roll_back(&deployment_id, to, &caller).await?;
    hold(&deployments, deployment, wants_async(&headers, &query)).await
}

/// Tells how the cluster differs from what a live deployment's endpoint should be there.
///
/// Somebody may have changed it by other means. asgard puts it right when it changes the endpoint
/// next, or starts.
#[utoipa::path(
    get,
    path = "/mlops/deployments/{deployment_id}/drift",
    tag = "deployments",
    params(("deployment_id" = String, Path)),
    responses(
        (status = 200, body = Plan),
        (status = 404, description = "No such deployment"),
        (status = 409, description = "It is not live, or not in a cluster"),
        (status = 502, description = "The cluster cannot be read"),
    )
)]
pub(super) async fn drift(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
) -> Result<Json<Plan>, ApiError> {
    Ok(Json(deployments.drift(&deployment_id).await?))
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedDeployment {
    deployment_id: String,
    model_name: String,
    model_version: Option<String>,
    message: String,
}

/// Stops and removes a deployment, in whatever state it is.
#[utoipa::path(
    delete,
    path = "/mlops/deployments/{deployment_id}",
    tag = "deployments",
    params(("deployment_id" = String, Path)),
    responses((status = 200, body = RemovedDeployment), (status = 404, description = "No such deployment"))
)]
pub(super) async fn remove(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
) -> Result<Json<RemovedDeployment>, ApiError> {
    let deployment = deployments.remove(&deployment_id).await?;
    Ok(Json(RemovedDeployment {
        deployment_id,
        model_name: deployment.order.model_name,
        model_version: deployment.model_version.map(|version| version.to_string()),
        message: "the deployment is removed; its replicas end when they have answered".to_owned(),
    }))
}
