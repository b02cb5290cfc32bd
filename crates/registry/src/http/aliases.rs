//! MLflow's routes of aliases.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tracking::wire::{Empty, Int, MlflowRequest, MlflowResult, required, required_value};
use web::{Permission, Routes};

use super::body::VersionResponse;
use crate::Registry;
use crate::selector::Selector;

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Registry>, prefix: &str) -> Routes<Registry> {
    use Permission::{ManageModels, ReadTracking};
    let path = format!("{prefix}/2.0/mlflow/registered-models/alias");
    routes
        .get(&path, ReadTracking, get)
        .post(&path, ManageModels, set)
        .delete(&path, ManageModels, delete)
}

#[derive(Deserialize)]
struct AliasRequest {
    name: Option<String>,
    alias: Option<String>,
    version: Option<Int>,
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
    MlflowRequest(request): MlflowRequest<AliasRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let alias = required(request.alias, "alias")?;
    let version = required_value(request.version, "version")?;
    registry.set_alias(&name, &alias, version.0).await?;
    Ok(Json(Empty {}))
}

async fn delete(
    State(registry): State<Registry>,
    MlflowRequest(request): MlflowRequest<AliasRequest>,
) -> MlflowResult<Empty> {
    let name = required(request.name, "name")?;
    let alias = required(request.alias, "alias")?;
    registry.delete_alias(&name, &alias).await?;
    Ok(Json(Empty {}))
}
