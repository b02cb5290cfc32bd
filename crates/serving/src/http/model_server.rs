//! The routes of one deployed model: `/`, `/health`, `/metadata`, `/predict` and the protocols.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use web::{ApiError, Json, Permission, RouteEntry, Routes, Style};

use super::inference::{InferenceResponse, Version};
use super::{invocations, v2};
use crate::inference::{Engine, Inference};
use crate::inputs::Inputs;
use crate::model_server::ModelServer;

/// The routes of a model server.
pub fn routes(server: ModelServer) -> Routes {
    stateless().with_state(server)
}

/// What a model server answers to, for a front that passes it on.
pub fn table() -> Vec<RouteEntry> {
    stateless().table().to_vec()
}

fn stateless() -> Routes<ModelServer> {
    Routes::new(Style::Asgard)
        .get("/", Permission::Public, about)
        .get("/health", Permission::Public, health)
        .get("/ping", Permission::Public, health)
        .get("/metadata", Permission::Predict, metadata)
        .post("/predict", Permission::Predict, predict)
        .post("/mlops/inference", Permission::Predict, predict)
        .post(
            "/invocations",
            Permission::Predict,
            invocations::invocations,
        )
        .get("/v2", Permission::Public, v2::about)
        .get("/v2/health/live", Permission::Public, v2::live)
        .get("/v2/health/ready", Permission::Public, v2::ready)
        .get("/v2/models/{name}", Permission::Predict, v2::metadata)
        .get(
            "/v2/models/{name}/versions/{version}",
            Permission::Predict,
            v2::metadata,
        )
        .get(
            "/v2/models/{name}/ready",
            Permission::Predict,
            v2::model_ready,
        )
        .get(
            "/v2/models/{name}/versions/{version}/ready",
            Permission::Predict,
            v2::model_ready,
        )
        .post("/v2/models/{name}/infer", Permission::Predict, v2::infer)
        .post(
            "/v2/models/{name}/versions/{version}/infer",
            Permission::Predict,
            v2::infer,
        )
}

async fn about(State(server): State<ModelServer>) -> Json<Value> {
    Json(json!({
        "service": "asgard model server",
        "version": env!("CARGO_PKG_VERSION"),
        "model_name": server.name(),
        "model_version": server.version().to_string(),
        "endpoints": {
            "root": "/",
            "health": "/health",
            "metadata": "/metadata",
            "predict": "/predict",
            "invocations": "/invocations",
            "open_inference_protocol": "/v2",
        },
    }))
}

/// 200 while it answers, 503 once it is about to stop.
async fn health(State(server): State<ModelServer>) -> Response {
    let (status, word) = if server.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "healthy")
    };
    let body = json!({
        "status": word,
        "model_name": server.name(),
        "model_version": server.version().to_string(),
        "model_loaded": true,
    });
    (status, Json(body)).into_response()
}

async fn metadata(State(server): State<ModelServer>) -> Json<Value> {
    let model = server.model();
    let engine = match model.native {
        Some(_) => Engine::Native,
        None => Engine::Python,
    };
    Json(json!({
        "model_name": server.name(),
        "model_version": server.version().to_string(),
        "run_id": model.described.run_id,
        "class": model.facts.class,
        "flavor": model.facts.flavor,
        "engine": engine,
        "inputs": model.described.inputs,
        "outputs": model.described.outputs,
        "feature_names": model.facts.features.names,
        "has_probabilities": model.facts.no_probabilities.is_none(),
    }))
}

/// A question to the one model of this server: the body of `/mlops/inference`, of which only the
/// inputs are needed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PredictRequest {
    model_name: Option<String>,
    model_version: Option<Version>,
    inputs: Inputs,
    #[serde(default)]
    return_probabilities: bool,
}

async fn predict(
    State(server): State<ModelServer>,
    Json(request): Json<PredictRequest>,
) -> Result<Json<InferenceResponse>, ApiError> {
    let own = || server.name().to_owned();
    let prediction = server
        .predict(Inference {
            model_name: request.model_name.unwrap_or_else(own),
            model_version: request.model_version.map(Version::into_text),
            inputs: request.inputs,
            features_from: Vec::new(),
            return_probabilities: request.return_probabilities,
        })
        .await?;
    Ok(Json(prediction.into()))
}
