//! A deployment as it is answered.

use jobs::Problem;
use serde::Serialize;
use utoipa::ToSchema;
use web::Timestamp;

use crate::Deployments;
use crate::deployment::{Deployment, State, Target};
use crate::error::Error;

/// A deployment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeploymentResponse {
    /// Opaque.
    #[schema(example = "01j9z3k0v8c4m5n6p7q8r9s0t1")]
    deployment_id: String,
    /// The same id, for clients that know jobs only.
    job_id: String,
    status: State,
    /// Whether it should answer requests: deployed, and not replaced by another.
    live: bool,
    model_name: String,
    model_version: Option<String>,
    run_id: Option<String>,
    /// The job that trained the script.
    training_job_id: Option<String>,
    namespace: String,
    target: Target,
    replicas: u32,
    /// How many of them answer now; null when that is not known, as on another machine.
    ready_replicas: Option<usize>,
    /// Its share of the requests to the endpoint.
    traffic_percent: u32,
    /// Where predictions are asked for; null until there is an address.
    #[schema(example = "http://127.0.0.1:8100")]
    inference_url: Option<String>,
    /// The same address.
    deployment_url: Option<String>,
    /// The host of that address.
    external_ip: Option<String>,
    /// The image in the registry; null for processes on this machine.
    image: Option<String>,
    endpoints: Option<DeploymentEndpoints>,
    phases: Vec<DeploymentPhase>,
    /// From the request to the end, in seconds; null until then.
    deployment_time_seconds: Option<f64>,
    /// The same.
    duration_seconds: Option<f64>,
    /// What is wrong, in one sentence: why it failed, or what its replicas suffer from now.
    error: Option<String>,
    error_info: Option<Problem>,
    /// The deployment that a rollback went back to.
    rollback_to: Option<String>,
    message: String,
    created_by: String,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
    retired_at: Option<Timestamp>,
}

/// The addresses of a deployed model.
#[derive(Debug, Serialize, ToSchema)]
struct DeploymentEndpoints {
    root: String,
    health: String,
    metadata: String,
    predict: String,
}

/// A phase with its time.
#[derive(Debug, Serialize, ToSchema)]
struct DeploymentPhase {
    phase: State,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// Null while it lasts.
    seconds: Option<f64>,
}

/// Describes a deployment as it is now.
pub(super) async fn describe(
    deployments: &Deployments,
    deployment: Deployment,
) -> Result<DeploymentResponse, Error> {
    let mut described = describe_all(deployments, vec![deployment]).await?;
    Ok(described.remove(0))
}

/// Describes deployments as they are now, each in its place.
pub(super) async fn describe_all(
    deployments: &Deployments,
    found: Vec<Deployment>,
) -> Result<Vec<DeploymentResponse>, Error> {
    let urls = deployments.urls(&found).await?;
    let described = found.into_iter().map(|deployment| {
        let url = urls.get(&deployment.endpoint()).cloned();
        document(deployments, deployment, url)
    });
    Ok(described.collect())
}

fn document(
    deployments: &Deployments,
    deployment: Deployment,
    url: Option<String>,
) -> DeploymentResponse {
    let live = deployment.is_live();
    let url = url.filter(|_| live);
    let health = match deployment.order.target {
        Target::Local => deployments.inner.local.health(&deployment),
        Target::Kubernetes => {
            let cluster = deployments.inner.kubernetes.as_ref();
            cluster.and_then(|cluster| cluster.health(&deployment.id))
        }
    };
    let health = health.filter(|_| live);
    let suffers = health.as_ref().and_then(|health| health.failure.clone());
    let problem = deployment.failure.clone().or(suffers).map(|f| f.problem);
    let here = deployment.machine == deployments.inner.machine;
    let ready = health.as_ref().map(|health| health.ready);
    DeploymentResponse {
        job_id: deployment.id.clone(),
        status: deployment.state,
        live,
        model_name: deployment.order.model_name.clone(),
        model_version: deployment.model_version.map(|version| version.to_string()),
        run_id: deployment.run_id.clone(),
        training_job_id: deployment.training_job_id.clone(),
        namespace: deployment.order.namespace.clone(),
        target: deployment.order.target,
        replicas: deployment.replicas,
        ready_replicas: ready.or(here.then_some(0)),
        traffic_percent: deployment.traffic,
        deployment_url: url.clone(),
        external_ip: url.as_deref().and_then(host),
        image: deployment.image.clone(),
        endpoints: url.as_deref().map(endpoints),
        inference_url: url,
        phases: phases(&deployment),
        deployment_time_seconds: deployment.duration_seconds(),
        duration_seconds: deployment.duration_seconds(),
        error: problem.as_ref().map(|problem| problem.message.clone()),
        error_info: problem,
        rollback_to: deployment.order.rollback_to.clone(),
        message: message(&deployment),
        created_by: deployment.created_by,
        created_at: Timestamp(deployment.created_at),
        completed_at: deployment.completed_at.map(Timestamp),
        retired_at: deployment.retired_at.map(Timestamp),
        deployment_id: deployment.id,
    }
}

fn endpoints(url: &str) -> DeploymentEndpoints {
    DeploymentEndpoints {
        root: format!("{url}/"),
        health: format!("{url}/health"),
        metadata: format!("{url}/metadata"),
        predict: format!("{url}/predict"),
    }
}

fn host(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1;
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next()?,
        None => authority.split(':').next()?,
    };
    Some(host.to_owned())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations of phases fit a float exactly"
)]
fn phases(deployment: &Deployment) -> Vec<DeploymentPhase> {
    let timings = deployment.timings.iter();
    timings
        .map(|timing| DeploymentPhase {
            phase: timing.phase,
            started_at: Timestamp(timing.started_at),
            ended_at: timing.ended_at.map(Timestamp),
            seconds: timing
                .ended_at
                .map(|end| (end - timing.started_at).max(0) as f64 / 1000.0),
        })
        .collect()
}

fn message(deployment: &Deployment) -> String {
    let name = &deployment.order.model_name;
    match (deployment.state, deployment.retired_at) {
        (State::Deployed, Some(_)) => format!("another deployment of {name:?} took its place"),
        (State::Deployed, None) => format!("{name:?} is deployed"),
        (State::Failed, _) => format!("the deployment of {name:?} failed"),
        (state, _) => format!("the deployment of {name:?} is {}", state.as_str()),
    }
}
