//! The routes of deployments and their wire types.

mod changes;
mod create;
mod deployments;
mod document;
mod logs;

use utoipa::OpenApi;
use web::{Permission, Routes, Style};

use crate::Deployments;

pub(crate) fn routes(deployments: Deployments) -> Routes {
    const ONE: &str = "/mlops/deployments/{deployment_id}";
    let below = |part: &str| format!("{ONE}/{part}");
    Routes::new(Style::Asgard)
        .post("/mlops/deploy", Permission::Deploy, create::deploy)
        .get(
            "/mlops/deployments",
            Permission::ReadDeployments,
            deployments::list,
        )
        .get(ONE, Permission::ReadDeployments, deployments::get)
        .delete(ONE, Permission::Deploy, changes::remove)
        .get(&below("logs"), Permission::ReadDeployments, logs::logs)
        // What is in the cluster shows the variables of replicas, which reading does not.
        .get(&below("drift"), Permission::Deploy, changes::drift)
        .post(&below("scale"), Permission::Deploy, changes::scale)
        .post(&below("traffic"), Permission::Deploy, changes::traffic)
        .post(&below("rollback"), Permission::Deploy, changes::rollback)
        .with_state(deployments)
}

#[derive(OpenApi)]
#[openapi(paths(
    create::deploy,
    deployments::list,
    deployments::get,
    changes::remove,
    changes::scale,
    changes::traffic,
    changes::rollback,
    changes::drift,
    logs::logs
))]
struct Document;

/// The description of these routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
