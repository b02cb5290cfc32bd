//! asgard's own routes of the registry: the models, one model, registering by hand.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};
use web::{ApiError, Caller, FieldError, Json, Path, Permission, Query, Routes, Timestamp};

use crate::Registry;
use crate::model::RegisteredModel;
use crate::name;
use crate::register::{Registration, Subject};
use crate::search::Search;
use crate::version::ModelVersion;

const NEXT_PAGE: HeaderName = HeaderName::from_static("x-next-page-token");

#[derive(OpenApi)]
#[openapi(paths(list_models, get_model, register))]
struct Api;

/// The description of asgard's own routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

pub(super) fn add(routes: Routes<Registry>) -> Routes<Registry> {
    routes
        .get("/mlops/models", Permission::ReadTracking, list_models)
        .get("/mlops/models/{name}", Permission::ReadTracking, get_model)
        .post("/mlops/registry", Permission::WriteTracking, register)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListModelsQuery {
    /// The most models to answer, 1 to 1000.
    #[param(default = 1000, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Where to go on: the `X-Next-Page-Token` of the answer before.
    page_token: Option<String>,
}

/// A registered model.
#[derive(Serialize, ToSchema)]
struct ModelItem {
    #[schema(example = "iris-classifier")]
    name: String,
    description: String,
    tags: BTreeMap<String, String>,
    /// The version that each alias points at.
    #[schema(example = json!({"champion": "3"}))]
    aliases: BTreeMap<String, String>,
    /// The newest version in each stage that has one.
    latest_versions: Vec<VersionItem>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A version of a registered model.
#[derive(Serialize, ToSchema)]
struct VersionItem {
    #[schema(example = "iris-classifier")]
    name: String,
    /// Counts from "1".
    #[schema(example = "1")]
    version: String,
    #[schema(example = "None")]
    stage: &'static str,
    run_id: Option<String>,
    /// The logged model that it is.
    model_id: Option<String>,
    /// The training job that made it.
    job_id: Option<String>,
    description: String,
    tags: BTreeMap<String, String>,
    aliases: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A registered model with its versions.
#[derive(Serialize, ToSchema)]
struct ModelDetail {
    #[serde(flatten)]
    model: ModelItem,
    /// The newest first, at most 1000.
    versions: Vec<VersionItem>,
}

/// A model to register: of a run or a logged model.
#[derive(Deserialize, ToSchema)]
struct RegisterRequest {
    /// The registered model to add a version to; made if it is missing.
    #[schema(example = "iris-classifier")]
    model_name: String,
    /// The run that logged the model.
    #[schema(example = "0f3c9c2e6f4b4f2f8f1d2c3b4a596877")]
    run_id: Option<String>,
    /// The logged model, when the run has several or there is none.
    model_id: Option<String>,
    description: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// A model that is registered.
#[derive(Serialize, ToSchema)]
struct RegisterResponse {
    model_name: String,
    #[schema(example = "1")]
    version: String,
    run_id: Option<String>,
    model_id: Option<String>,
    /// Always `registered`.
    #[schema(example = "registered")]
    status: &'static str,
    created_at: Timestamp,
}

impl From<RegisteredModel> for ModelItem {
    fn from(model: RegisteredModel) -> Self {
        let alias = |(alias, version): (String, i64)| (alias, version.to_string());
        Self {
            name: model.name,
            description: model.description,
            tags: model.tags,
            aliases: model.aliases.into_iter().map(alias).collect(),
            latest_versions: model.latest_versions.into_iter().map(Into::into).collect(),
            created_at: Timestamp(model.created_at),
            updated_at: Timestamp(model.updated_at),
        }
    }
}

impl From<ModelVersion> for VersionItem {
    fn from(version: ModelVersion) -> Self {
        Self {
            name: version.name,
            version: version.version.to_string(),
            stage: version.stage.as_str(),
            run_id: version.run_id,
            model_id: version.model_id,
            job_id: version.job_id,
            description: version.description,
            tags: version.tags,
            aliases: version.aliases,
            created_at: Timestamp(version.created_at),
            updated_at: Timestamp(version.updated_at),
        }
    }
}

/// Lists the registered models by name.
#[utoipa::path(get, path = "/mlops/models", tag = "models", params(ListModelsQuery), responses(
    (status = 200, description = "The models; an empty array when there are none", body = [ModelItem],
     headers(("X-Next-Page-Token" = String, description = "Present when there are more"))),
))]
async fn list_models(
    State(registry): State<Registry>,
    Query(query): Query<ListModelsQuery>,
) -> Result<Response, ApiError> {
    let search = Search {
        max_results: Some(query.limit.unwrap_or(1000)),
        page_token: query.page_token,
        ..Search::default()
    };
    let (models, next) = registry.search_models(&search).await?;
    let models: Vec<ModelItem> = models.into_iter().map(Into::into).collect();
    let next = next.map(|token| [(NEXT_PAGE, token)]);
    Ok((next, Json(models)).into_response())
}

/// Shows a registered model with its versions.
#[utoipa::path(get, path = "/mlops/models/{name}", tag = "models",
    params(("name" = String, Path, description = "The registered model", example = "iris-classifier")),
    responses(
    (status = 200, description = "The model", body = ModelDetail),
    (status = 404, description = "No such model"),
))]
async fn get_model(
    State(registry): State<Registry>,
    Path(name): Path<String>,
) -> Result<Json<ModelDetail>, ApiError> {
    let model = registry.get_model(&name).await?;
    let versions = registry.versions_of_model(&name).await?;
    Ok(Json(ModelDetail {
        model: model.into(),
        versions: versions.into_iter().map(Into::into).collect(),
    }))
}

/// Registers the model of a run, or a logged model. The same model under the same name again
/// answers with the version that it already has.
#[utoipa::path(post, path = "/mlops/registry", tag = "models", request_body = RegisterRequest, responses(
    (status = 201, description = "The version", body = RegisterResponse),
    (status = 404, description = "No such run or logged model"),
    (status = 422, description = "The run holds no model; `details.artifacts` lists what it holds"),
))]
async fn register(
    State(registry): State<Registry>,
    Caller(caller): Caller,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<RegisterResponse>), ApiError> {
    let given = |id: Option<String>| id.filter(|id| !id.is_empty());
    let subject = match (given(request.model_id), given(request.run_id)) {
        (Some(model_id), _) => Subject::LoggedModel(model_id),
        (None, Some(run_id)) => Subject::Run(run_id),
        (None, None) => {
            let message = "give the run_id of the run that logged the model, or a model_id";
            return Err(ApiError::fields(vec![FieldError::body(
                ["run_id"],
                message,
            )]));
        }
    };
    if request.model_name.trim().is_empty() {
        let message = "the name of the registered model must not be empty";
        return Err(ApiError::fields(vec![FieldError::body(
            ["model_name"],
            message,
        )]));
    }
    let mut keys = request.tags.keys();
    keys.try_for_each(|key| name::check_not_reserved(key))?;
    let registration = Registration {
        model_name: request.model_name,
        subject,
        description: request.description,
        tags: request.tags.into_iter().collect(),
        job_id: caller.job_id().map(str::to_owned),
    };
    let version = registry.register(registration).await?;
    let answer = RegisterResponse {
        model_name: version.name,
        version: version.version.to_string(),
        run_id: version.run_id,
        model_id: version.model_id,
        status: "registered",
        created_at: Timestamp(version.created_at),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}
