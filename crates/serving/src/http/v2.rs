//! The Open Inference Protocol, version 2, over HTTP and JSON.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use web::{ApiError, Code, FieldError, Json, Path};

use crate::inference::Inference;
use crate::model_server::ModelServer;
use crate::signature::Signature;
use crate::tensor::{Tensor, inputs, outputs};

/// Which model a path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    name: String,
    version: Option<String>,
}

impl Named {
    fn check(&self, server: &ModelServer) -> Result<(), ApiError> {
        let version = server.version().to_string();
        let same = self.version.as_ref().is_none_or(|v| *v == version);
        if self.name == server.name() && same {
            return Ok(());
        }
        let name = server.name();
        Err(ApiError::new(
            Code::NotFound,
            format!("this server answers for version {version} of {name:?} only"),
        ))
    }
}

pub(super) async fn about() -> Json<Value> {
    Json(json!({
        "name": "asgard",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": [],
    }))
}

pub(super) async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

pub(super) async fn ready(State(server): State<ModelServer>) -> Response {
    let ready = !server.is_draining();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready }))).into_response()
}

pub(super) async fn model_ready(
    State(server): State<ModelServer>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, ApiError> {
    named.check(&server)?;
    Ok(Json(json!({ "name": server.name(), "ready": true })))
}

pub(super) async fn metadata(
    State(server): State<ModelServer>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, ApiError> {
    named.check(&server)?;
    let tensor = |name: &str, datatype: &str, shape: Value| json!({ "name": name, "datatype": datatype, "shape": shape });
    let inputs: Vec<Value> = match &server.model().described.signature {
        Signature::Columns(columns) => columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let name = column.name.clone().unwrap_or(at.to_string());
                tensor(&name, column.kind.datatype(), json!([-1]))
            })
            .collect(),
        Signature::Array(array) => {
            vec![tensor(
                "inputs",
                array.kind().datatype(),
                json!(array.shape),
            )]
        }
        Signature::Arrays(arrays) => arrays
            .iter()
            .map(|(name, array)| tensor(name, array.kind().datatype(), json!(array.shape)))
            .collect(),
        Signature::Absent => Vec::new(),
    };
    Ok(Json(json!({
        "name": server.name(),
        "versions": [server.version().to_string()],
        "platform": server.model().facts.flavor,
        "inputs": inputs,
        "outputs": [],
    })))
}

#[derive(Debug, Deserialize)]
pub(super) struct InferRequest {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Tensor<Value>>,
}

#[derive(Debug, Serialize)]
pub(super) struct InferResponse {
    model_name: String,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<Tensor<crate::values::Values>>,
}

/// Answers `predictions`, and `probabilities` when the parameter `return_probabilities` is true.
pub(super) async fn infer(
    State(server): State<ModelServer>,
    Path(named): Path<Named>,
    Json(request): Json<InferRequest>,
) -> Result<Json<InferResponse>, ApiError> {
    let inputs = inputs(request.inputs).map_err(|(at, message)| {
        let path = ["inputs".to_owned(), at.to_string()];
        ApiError::fields(vec![FieldError::body(path, message)])
    })?;
    let probabilities = request.parameters.get("return_probabilities");
    let prediction = server
        .predict(Inference {
            model_name: named.name,
            model_version: named.version,
            inputs,
            features_from: Vec::new(),
            return_probabilities: probabilities.is_some_and(|wanted| *wanted == Value::Bool(true)),
        })
        .await?;
    let mut answers = vec![("predictions", prediction.predictions)];
    answers.extend(prediction.probabilities.map(|p| ("probabilities", p)));
    Ok(Json(InferResponse {
        model_name: prediction.model_name,
        model_version: prediction.model_version.to_string(),
        id: request.id,
        outputs: outputs(answers),
    }))
}
