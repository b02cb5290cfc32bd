//! A question to a model and its answer.

use serde::Serialize;

use crate::inputs::Inputs;
use crate::values::Values;

/// A question to a model.
#[derive(Debug, Clone)]
pub struct Inference {
    pub model_name: String,
    /// A number, `@alias`, a stage, or `None` for the latest version.
    pub model_version: Option<String>,
    pub inputs: Inputs,
    /// Feature views (`VIEW`) or features (`VIEW:FEATURE`) whose values the feature store fills in.
    pub features_from: Vec<String>,
    pub return_probabilities: bool,
}

/// The answer to an [`Inference`].
#[derive(Debug, Clone)]
pub struct Prediction {
    pub model_name: String,
    /// The version that answered.
    pub model_version: i64,
    pub predictions: Values,
    /// `None` when they were not asked for or the model has none; then a note says why.
    pub probabilities: Option<Values>,
    pub notes: Vec<String>,
    /// From the arrival of the question to its answer, without reading and writing it.
    pub inference_time_ms: f64,
    pub engine: Engine,
}

/// What computed an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// asgard itself, for models where it gave the same bits as Python when the model was loaded.
    Native,
    /// The model's own Python code in a sandboxed worker.
    Python,
}
