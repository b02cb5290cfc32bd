//! MLflow's routes of aliases.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tracking::wire::{Choice, Empty, MlflowRequest, MlflowResult, required};
use web::{Caller, Permission, Routes};

use super::body::{VersionResponse, version_number};
use crate::Registry;
use crate::selector::Selector;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Registry>, prefix: &str) -> Routes<Registry> {
    use Permission::{PromoteVersions, ReadTracking};
    let path = format!("{prefix}/2.0/mlflow/registered-models/alias");
    routes
        .get(&path, ReadTracking, get)
        .post(&path, PromoteVersions, set)
        .delete(&path, PromoteVersions, delete)
}

#[derive(Deserialize)]
struct AliasRequest {
    name: Option<String>,
    alias: Option<String>,
    version: Option<Choice>,
}

async fn get(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<AliasRequest>,
) -> MlflowResult<VersionResponse> {
    let name = required(request.name, "name")?;
    let alias = Selector::Alias(required(request.alias, "alias")?);
    Ok(Json(registry.resolve(&name, &alias).await?.into()))
}

async fn set(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<AliasRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let alias = required(request.alias, "alias")?;
    let version = version_number(request.version.as_ref())?;
    let set = registry.set_alias_as(&caller, &name, &alias, version);
    set.await?;
    Ok(Json(Empty {}))
}

async fn delete(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<AliasRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let alias = required(request.alias, "alias")?;
    registry.delete_alias(&caller, &name, &alias).await?;
    Ok(Json(Empty {}))
}
