//! `GET /mlops/deployments` and one of them.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Code, Json, Path, Query};

use super::document::{DeploymentResponse, describe, describe_all};
use crate::Deployments;
use crate::deployment::State as Stands;
use crate::store::deployments::Filter;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    namespace: Option<String>,
    model_name: Option<String>,
    /// `training`, `building`, `pushing`, `deploying`, `deployed` or `failed`.
    status: Option<String>,
    /// Only those that should answer requests.
    live: Option<bool>,
    /// How many, 500 at most.
    #[param(default = 50)]
    limit: Option<usize>,
    /// The `next_page_token` of the page before.
    page_token: Option<String>,
}

/// A page of deployments.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeploymentsResponse {
    /// Newest first.
    deployments: Vec<DeploymentResponse>,
    next_page_token: Option<String>,
}

/// Lists deployments, newest first.
#[utoipa::path(
    get,
    path = "/mlops/deployments",
    tag = "deployments",
    params(ListQuery),
    responses((status = 200, body = DeploymentsResponse), (status = 400, description = "No such status"))
)]
pub(super) async fn list(
    State(deployments): State<Deployments>,
    Query(query): Query<ListQuery>,
) -> Result<Json<DeploymentsResponse>, ApiError> {
    let state = match &query.status {
        Some(text) => Some(Stands::parse(text).ok_or_else(|| {
            ApiError::new(
                Code::Invalid,
                format!("{text:?} is no status of a deployment"),
            )
            .help("use training, building, pushing, deploying, deployed or failed")
        })?),
        None => None,
    };
    let filter = Filter {
        namespace: query.namespace,
        model_name: query.model_name,
        state,
        live: query.live.unwrap_or(false),
        before: query.page_token,
    };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let (found, more) = deployments.list(&filter, limit).await?;
    let last = found.last().map(|last| last.id.clone());
    Ok(Json(DeploymentsResponse {
        deployments: describe_all(&deployments, found).await?,
        next_page_token: last.filter(|_| more),
    }))
}

/// Reads a deployment: its state, phases, address, and why it failed.
#[utoipa::path(
    get,
    path = "/mlops/deployments/{deployment_id}",
    tag = "deployments",
    params(("deployment_id" = String, Path)),
    responses((status = 200, body = DeploymentResponse), (status = 404, description = "No such deployment"))
)]
pub(super) async fn get(
    State(deployments): State<Deployments>,
    Path(deployment_id): Path<String>,
) -> Result<Json<DeploymentResponse>, ApiError> {
    let deployment = deployments.get(&deployment_id).await?;
    Ok(Json(describe(&deployments, deployment).await?))
}
