//! MLflow's routes of scorers (`service.proto`).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use web::{Caller, Permission, Routes};

use crate::Tracking;
use crate::error::Error;
use crate::scorer::Scorer;
use crate::wire::{Empty, Int, List, MlflowRequest, MlflowResult, required};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::{ReadTracking, WriteTracking};
    let path = |name: &str| format!("{prefix}/3.0/mlflow/scorers/{name}");
    routes
        .post(&path("register"), WriteTracking, register)
        .get(&path("list"), ReadTracking, list)
        .get(&path("versions"), ReadTracking, list_versions)
        .get(&path("get"), ReadTracking, get)
        .delete(&path("delete"), WriteTracking, delete)
}

#[derive(Deserialize)]
struct RegisterRequest {
    experiment_id: Option<String>,
    name: Option<String>,
    serialized_scorer: Option<String>,
}

#[derive(Deserialize)]
struct ListRequest {
    experiment_id: Option<String>,
    experiment_ids: Option<List<String>>,
}

#[derive(Deserialize)]
struct ScorerRequest {
    experiment_id: Option<String>,
    name: Option<String>,
    version: Option<Int>,
}

#[derive(Serialize)]
struct RegisterResponse {
    version: i64,
    scorer_id: String,
    experiment_id: String,
    name: String,
    serialized_scorer: String,
    creation_time: i64,
}

#[derive(Serialize)]
struct ListResponse {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scorers: Vec<ScorerJson>,
}

#[derive(Serialize)]
struct ScorerResponse {
    scorer: ScorerJson,
}

#[derive(Serialize)]
struct ScorerJson {
    /// A number here, unlike anywhere else.
    experiment_id: i64,
    scorer_name: String,
    scorer_version: i64,
    serialized_scorer: String,
    creation_time: i64,
    scorer_id: String,
}

impl From<Scorer> for ScorerJson {
    fn from(scorer: Scorer) -> Self {
        Self {
            experiment_id: scorer.experiment_id,
            scorer_name: scorer.name,
            scorer_version: scorer.version,
            serialized_scorer: scorer.serialized,
            creation_time: scorer.created_time,
            scorer_id: scorer.scorer_id,
        }
    }
}

fn answer(scorers: Vec<Scorer>) -> Json<ListResponse> {
    Json(ListResponse {
        scorers: scorers.into_iter().map(Into::into).collect(),
    })
}

async fn register(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<RegisterRequest>,
) -> MlflowResult<RegisterResponse> {
    let experiment_id = required(request.experiment_id, "experiment_id")?;
    let name = required(request.name, "name")?;
    let serialized = required(request.serialized_scorer, "serialized_scorer")?;
    let made = tracking.register_scorer(&experiment_id, name, serialized, caller.job_id());
    let scorer = made.await?;
    Ok(Json(RegisterResponse {
        version: scorer.version,
        scorer_id: scorer.scorer_id,
        experiment_id: scorer.experiment_id.to_string(),
        name: scorer.name,
        serialized_scorer: scorer.serialized,
        creation_time: scorer.created_time,
    }))
}

async fn list(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ListRequest>,
) -> MlflowResult<ListResponse> {
    let one = request.experiment_id.filter(|id| !id.is_empty());
    let ids = match (one, request.experiment_ids) {
        (Some(_), Some(_)) => {
            let message = "Cannot specify both 'experiment_id' and 'experiment_ids'";
            return Err(Error::Invalid(message.to_owned()).into());
        }
        (Some(one), None) => Some(vec![one]),
        (None, many) => many.map(|ids| ids.0),
    };
    Ok(answer(tracking.list_scorers(ids.as_deref()).await?))
}

async fn list_versions(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ScorerRequest>,
) -> MlflowResult<ListResponse> {
    let experiment_id = required(request.experiment_id, "experiment_id")?;
    let name = required(request.name, "name")?;
    let found = tracking.list_scorer_versions(&experiment_id, &name).await?;
    Ok(answer(found))
}

async fn get(
    State(tracking): State<Tracking>,
    MlflowRequest(request): MlflowRequest<ScorerRequest>,
) -> MlflowResult<ScorerResponse> {
    let experiment_id = required(request.experiment_id, "experiment_id")?;
    let name = required(request.name, "name")?;
    let version = request.version.map(|version| version.0);
    let found = tracking.get_scorer(&experiment_id, &name, version).await?;
    Ok(Json(ScorerResponse {
        scorer: found.into(),
    }))
}

async fn delete(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<ScorerRequest>,
) -> MlflowResult<Empty> {
    let experiment_id = required(request.experiment_id, "experiment_id")?;
    let name = required(request.name, "name")?;
    let version = request.version.map(|version| version.0);
    tracking
        .delete_scorer(&experiment_id, &name, version, caller.job_id())
        .await?;
    Ok(Json(Empty {}))
}
