//! `POST /mlops/deploy`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Caller, IdempotencyKey, Json, Query};

use super::document::{DeploymentResponse, describe};
use crate::Deployments;
use crate::create;
use crate::deployment::{Autoscale, Deployment, Failure, State as Stands, Target};
use crate::order::Request;

/// What to deploy: a script that is trained first, or a registered model.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body for OpenAPI; order.rs reads it field by field to name every mistake at once"
)]
pub(crate) struct DeployRequest {
    /// The registered model; with a script, the one that it becomes a version of.
    #[schema(example = "churn_predictor")]
    model_name: String,
    /// A number, `@alias` or a stage; absent: the latest version. Not with a script.
    #[schema(example = "@champion")]
    model_version: Option<String>,
    /// A training script: base64 or plain text. It is trained as by `/mlops/training/upload`.
    script_content: Option<String>,
    /// [default: the model's name]
    script_name: Option<String>,
    /// `auto`, `base64` or `plain`.
    script_encoding: Option<String>,
    /// [default: the model's name]
    experiment_name: Option<String>,
    /// PEP 508 requirements of the script.
    #[schema(example = json!(["scikit-learn", "pandas"]))]
    requirements: Option<Vec<String>>,
    /// Variables of the script's environment.
    environment_vars: Option<BTreeMap<String, String>>,
    /// How long the script may run, in seconds.
    #[schema(minimum = 60, maximum = 3600, default = 300)]
    timeout: Option<u32>,
    /// Tags of the run and of the model version.
    tags: Option<BTreeMap<String, String>>,
    /// Turn MLflow's autologging on before the script runs.
    autolog: Option<bool>,
    /// A Python version such as `3.11`.
    python_version: Option<String>,
    /// Deploy a script although its text shows no call that logs a model.
    #[schema(default = false)]
    skip_script_check: Option<bool>,
    #[schema(minimum = 1, maximum = 10, default = 2)]
    replicas: Option<u32>,
    /// Deployments of the same model in one namespace share an address.
    #[schema(default = "asgard")]
    namespace: Option<String>,
    /// Absent: `kubernetes` where the server has a cluster, else `local`.
    target: Option<Target>,
    /// An image of the model that is in a registry already, by digest; for `kubernetes`.
    #[schema(
        example = "registry.example.com/iris@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    )]
    image: Option<String>,
    /// What the model's code finds in `os.environ`, in every replica; a script's job gets them too. Names
    /// that the platform sets, or that change which code runs, are refused.
    #[schema(example = json!({"GREETING": "hello"}))]
    environment: Option<BTreeMap<String, String>>,
    /// Lets the cluster choose the number of replicas; for `kubernetes`.
    autoscale: Option<Autoscale>,
    /// The share of the requests that it gets beside what is deployed already; absent: all.
    #[schema(minimum = 1, maximum = 99)]
    canary_percent: Option<u32>,
    /// Of one replica.
    resources: Option<ReplicaResources>,
    /// Of the training job.
    training_resources: Option<ReplicaResources>,
}

/// What a process may use.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body for OpenAPI")]
pub(crate) struct ReplicaResources {
    /// `512Mi`, `2GB` or a number of bytes.
    #[schema(example = "1Gi")]
    memory: Option<String>,
    #[schema(example = 1.0)]
    cpus: Option<f64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeployQuery {
    /// `false` answers at once, as the header `Prefer: respond-async` does.
    #[param(default = true)]
    wait: Option<bool>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateQuery {
    /// `false` answers at once, as the header `Prefer: respond-async` does.
    #[param(default = true)]
    wait: Option<bool>,
    /// Deploys nothing and answers with the objects that the cluster would get, and how it differs
    /// from them now. For a registered model and the target `kubernetes`.
    #[param(default = false)]
    dry_run: Option<bool>,
}

/// Deploys a registered model, or trains a script and deploys what it made.
///
/// The request is held until the model answers, or until it failed; it goes on when the caller
/// leaves. `Prefer: respond-async` or `?wait=false` answers 202 at once.
#[utoipa::path(
    post,
    path = "/mlops/deploy",
    tag = "deployments",
    request_body = DeployRequest,
    params(
        CreateQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key from the same caller gives the same deployment"),
        ("Prefer" = Option<String>, Header, description = "respond-async: answer 202 at once (RFC 7240)"),
    ),
    responses(
        (status = 200, description = "It is deployed; with dry_run a ClusterPlan", body = DeploymentResponse, headers(("Location" = String, description = "The deployment"))),
        (status = 202, description = "It goes on", body = DeploymentResponse, headers(("Location" = String, description = "The deployment"))),
        (status = 404, description = "No such model or version"),
        (status = 409, description = "The Idempotency-Key was used for another request"),
        (status = 422, description = "Fields are wrong, or the script or its model is at fault"),
        (status = 502, description = "What the deployment needs failed: the package index, a registry"),
        (status = 503, description = "This machine could not run it"),
    )
)]
pub(super) async fn deploy(
    State(deployments): State<Deployments>,
    Caller(caller): Caller,
    Query(query): Query<CreateQuery>,
    IdempotencyKey(key): IdempotencyKey,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, ApiError> {
    let inner = &deployments.inner;
    let request = Request::parse(body, &inner.config, inner.parts.jobs.config())?;
    if query.dry_run.unwrap_or(false) {
        return Ok(Json(deployments.plan(&request).await?).into_response());
    }
    let query = DeployQuery { wait: query.wait };
    let (id, label) = (caller.id(), caller.label());
    let caller = create::Caller {
        id: &id,
        label: &label,
        idempotency_key: key.as_deref(),
    };
    let deployment = deployments.create(request, &caller).await?;
    hold(&deployments, deployment, wants_async(&headers, &query)).await
}

/// Waits for the end of a deployment, unless that is not wanted, and answers with it.
pub(super) async fn hold(
    deployments: &Deployments,
    deployment: Deployment,
    at_once: bool,
) -> Result<Response, ApiError> {
    let location = format!("/mlops/deployments/{}", deployment.id);
    let deployment = if at_once {
        deployment
    } else {
        let limit = deployments.inner.config.wait_timeout();
        deployments.ended(&deployment.id, limit).await?
    };
    let mut response = match (&deployment.failure, deployment.state) {
        (Some(failure), Stands::Failed) => refused(&deployment, failure).into_response(),
        (_, state) => {
            let status = match state {
                Stands::Deployed => StatusCode::OK,
                _ => StatusCode::ACCEPTED,
            };
            let document: DeploymentResponse = describe(deployments, deployment).await?;
            (status, Json(document)).into_response()
        }
    };
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// A failed deployment as the answer to the request that was held for it.
fn refused(deployment: &Deployment, failure: &Failure) -> ApiError {
    let problem = &failure.problem;
    let details = json!({
        "deployment_id": deployment.id,
        "training_job_id": deployment.training_job_id,
        "reason": problem.code,
        "output": problem.details,
    });
    let error = ApiError::new(failure.fault.code(), problem.message.clone())
        .named("deployment_failed")
        .titled(problem.error.clone())
        .details(details);
    match &problem.help {
        Some(help) => error.help(help.clone()),
        None => error,
    }
}

pub(super) fn wants_async(headers: &HeaderMap, query: &DeployQuery) -> bool {
    let preferred = headers.get_all("prefer").iter().any(|value| {
        let preferences = value.to_str().unwrap_or_default().split([',', ';']);
        preferences
            .map(str::trim)
            .any(|p| p.eq_ignore_ascii_case("respond-async"))
    });
    !query.wait.unwrap_or(!preferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_held_unless_it_says_otherwise() {
        let query = |wait| DeployQuery { wait };
        let mut headers = HeaderMap::new();
        assert!(!wants_async(&headers, &query(None)));
        assert!(wants_async(&headers, &query(Some(false))));
        headers.insert(
            "prefer",
            HeaderValue::from_static("handling=strict, Respond-Async"),
        );
        assert!(wants_async(&headers, &query(None)));
        assert!(!wants_async(&headers, &query(Some(true))));
    }
}
