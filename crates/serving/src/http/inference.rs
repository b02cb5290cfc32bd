//! `POST /mlops/inference`.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};
use web::{ApiError, Json, Permission, Routes, Style, Timestamp};

use crate::inference::{Engine, Inference, Prediction};
use crate::inputs::Inputs;
use crate::serving::Serving;
use crate::values::Values;

/// The routes of serving.
pub fn routes(serving: Serving) -> Routes {
    Routes::new(Style::Asgard)
        .post("/mlops/inference", Permission::Predict, infer)
        .with_state(serving)
}

/// The OpenAPI description of [`routes`].
pub fn openapi() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(infer))]
    struct Api;
    Api::openapi()
}

/// A question to a registered model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "model_name": "iris",
    "inputs": {"sepal_length": [5.1], "sepal_width": [3.5], "petal_length": [1.4], "petal_width": [0.2]},
    "return_probabilities": true
}))]
struct InferenceRequest {
    /// The registered model's name.
    model_name: String,
    /// A version number, `@alias` or a stage; the latest version when it is left out.
    #[schema(value_type = Option<String>)]
    model_version: Option<Version>,
    /// Columns of equal length, by name; each holds one value for each row.
    #[schema(value_type = std::collections::HashMap<String, Vec<serde_json::Value>>)]
    inputs: Inputs,
    /// A feature view, or a list of views and features (`VIEW:FEATURE`): the columns that the model
    /// takes and `inputs` lacks come from the online store, by the join keys in `inputs`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    features_from: FeaturesFrom,
    /// Whether to answer with the probability of each class too.
    #[serde(default)]
    return_probabilities: bool,
}

/// One name, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum FeaturesFrom {
    #[default]
    Nothing,
    One(String),
    Several(Vec<String>),
}

impl FeaturesFrom {
    fn into_names(self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::One(name) => vec![name],
            Self::Several(names) => names,
        }
    }
}

/// A version as text; a bare number is taken too.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Version {
    Text(String),
    Number(i64),
}

impl Version {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The model's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InferenceResponse {
    model_name: String,
    /// The version that answered.
    model_version: String,
    /// One prediction for each row. NaN is null; infinity is the text "Infinity" or "-Infinity".
    #[schema(value_type = Vec<serde_json::Value>)]
    predictions: Values,
    /// For each row the probability of each class; null when not asked for, or when the model has
    /// none, which a note then says.
    #[schema(value_type = Option<Vec<Vec<f64>>>)]
    probabilities: Option<Values>,
    /// What the caller should know about how this answer came about.
    notes: Vec<String>,
    /// The time that the model took, waiting in its queue included, loading it not.
    inference_time_ms: f64,
    timestamp: Timestamp,
    engine: Engine,
}

/// Ask a registered model for predictions
#[utoipa::path(
    post,
    path = "/mlops/inference",
    tag = "inference",
    request_body = InferenceRequest,
    responses(
        (status = 200, description = "The predictions", body = InferenceResponse),
        (status = 404, description = "No such model or version"),
        (status = 422, description = "The columns do not fit, or the model could not be loaded or raised an exception"),
        (status = 502, description = "The model's worker died over this request"),
        (status = 503, description = "Too many requests wait for the model, or it took too long"),
    )
)]
async fn infer(
    State(serving): State<Serving>,
    Json(request): Json<InferenceRequest>,
) -> Result<Json<InferenceResponse>, ApiError> {
    let prediction = serving
        .predict(Inference {
            model_name: request.model_name,
            model_version: request.model_version.map(Version::into_text),
            inputs: request.inputs,
            features_from: request.features_from.into_names(),
            return_probabilities: request.return_probabilities,
        })
        .await?;
    Ok(Json(prediction.into()))
}

impl From<Prediction> for InferenceResponse {
    fn from(prediction: Prediction) -> Self {
        Self {
            model_name: prediction.model_name,
            model_version: prediction.model_version.to_string(),
            predictions: prediction.predictions,
            probabilities: prediction.probabilities,
            notes: prediction.notes,
            inference_time_ms: prediction.inference_time_ms,
            timestamp: Timestamp::now(),
            engine: prediction.engine,
        }
    }
}
