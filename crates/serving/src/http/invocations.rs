//! `POST /invocations`, as `mlflow models serve` answers it.
//!
//! The forms of a JSON body are `dataframe_split`, `dataframe_records`, `instances` and `inputs`
//! (`mlflow/pyfunc/scoring_server/__init__.py`).

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use web::{ApiError, FieldError, Json};

use crate::inference::Inference;
use crate::inputs::Inputs;
use crate::model_server::ModelServer;
use crate::tabular::{Split, Table};
use crate::values::Values;

/// One of the four forms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InvocationsRequest {
    dataframe_split: Option<Split>,
    dataframe_records: Option<Table>,
    instances: Option<Table>,
    inputs: Option<Table>,
    params: Option<Map<String, Value>>,
}

#[derive(Debug, Serialize)]
pub(super) struct InvocationsResponse {
    predictions: Values,
}

pub(super) async fn invocations(
    State(server): State<ModelServer>,
    Json(request): Json<InvocationsRequest>,
) -> Result<Json<InvocationsResponse>, ApiError> {
    let inference = Inference {
        model_name: server.name().to_owned(),
        model_version: None,
        inputs: request.into_inputs()?,
        features_from: Vec::new(),
        return_probabilities: false,
    };
    let prediction = server.predict(inference).await?;
    Ok(Json(InvocationsResponse {
        predictions: prediction.predictions,
    }))
}

impl InvocationsRequest {
    fn into_inputs(self) -> Result<Inputs, ApiError> {
        let refused = |field: &str, message: &str| {
            ApiError::fields(vec![FieldError::body([field.to_owned()], message)])
        };
        if self.params.is_some_and(|params| !params.is_empty()) {
            return Err(refused("params", "this server passes no params to models"));
        }
        let tables = [
            ("dataframe_records", self.dataframe_records),
            ("instances", self.instances),
            ("inputs", self.inputs),
        ];
        let split = self.dataframe_split.map(Split::into_inputs);
        let mut given: Vec<_> = split
            .map(|read| ("dataframe_split", read))
            .into_iter()
            .collect();
        for (form, table) in tables {
            given.extend(table.map(|table| (form, table.into_inputs())));
        }
        match <[_; 1]>::try_from(given) {
            Ok([(form, read)]) => read.map_err(|message| refused(form, &message)),
            Err(_) => Err(refused(
                "inputs",
                "the body must have exactly one of dataframe_split, dataframe_records, instances and inputs",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Inputs, String> {
        let request: InvocationsRequest =
            serde_json::from_value(body).map_err(|e| e.to_string())?;
        request.into_inputs().map_err(|e| e.message().to_owned())
    }

    #[test]
    fn the_four_forms_give_the_same_columns() {
        let expected: Inputs =
            serde_json::from_value(json!({"a": [1, 2], "b": [0.5, 1.5]})).unwrap();
        for body in [
            json!({"dataframe_split": {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 0.5], [2, 1.5]]}}),
            json!({"dataframe_records": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}]}),
            json!({"instances": [{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}], "params": {}}),
            json!({"inputs": {"a": [1, 2], "b": [0.5, 1.5]}}),
        ] {
            assert_eq!(read(body.clone()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn a_body_of_another_form_names_the_forms() {
        for body in [
            json!({}),
            json!({"data": []}),
            json!({"inputs": {}, "instances": []}),
        ] {
            let message = read(body.clone()).unwrap_err();
            assert!(message.contains("dataframe_split"), "{body}: {message}");
        }
        assert!(read(json!({"inputs": [[1]], "params": {"a": 1}})).is_err());
    }
}
