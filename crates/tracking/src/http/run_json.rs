//! Runs as MLflow writes them.

use serde::{Serialize, Serializer};

use crate::dataset::DatasetInput;
use crate::metric::Metric;
use crate::record::RunRecord;
use crate::run::Run;
use crate::wire::KeyValue;

#[derive(Serialize)]
pub(super) struct RunResponse {
    pub(super) run: RunJson,
}

/// `run` of `service.proto`; inputs and outputs are there even when they are empty.
#[derive(Serialize)]
pub(super) struct RunJson {
    info: RunInfo,
    data: RunData,
    inputs: Inputs,
    outputs: Outputs,
}

/// What a run is; `run_uuid` is what clients of 2.x read.
#[derive(Serialize)]
pub(super) struct RunInfo {
    run_uuid: String,
    experiment_id: String,
    run_name: String,
    user_id: String,
    status: &'static str,
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: String,
    lifecycle_stage: &'static str,
    run_id: String,
}

#[derive(Serialize)]
struct RunData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    params: Vec<KeyValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
}

#[derive(Serialize)]
struct MetricJson {
    key: String,
    #[serde(serialize_with = "double")]
    value: f64,
    timestamp: i64,
    step: i64,
}

#[derive(Serialize)]
struct Inputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInputJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelInput>,
}

#[derive(Serialize)]
struct Outputs {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<ModelOutput>,
}

#[derive(Serialize)]
struct DatasetInputJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<KeyValue>,
    dataset: DatasetJson,
}

#[derive(Serialize)]
struct DatasetJson {
    name: String,
    digest: String,
    source_type: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
}

#[derive(Serialize)]
struct ModelInput {
    model_id: String,
}

#[derive(Serialize)]
struct ModelOutput {
    model_id: String,
    step: i64,
}

/// Protobuf JSON writes what JSON has no number for as a text.
fn double<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() {
        serializer.serialize_str("NaN")
    } else {
        serializer.serialize_f64(*value)
    }
}

impl From<Run> for RunInfo {
    fn from(run: Run) -> Self {
        Self {
            run_uuid: run.run_id.clone(),
            experiment_id: run.experiment_id,
            run_name: run.name,
            user_id: run.user_id,
            status: run.status.as_str(),
            start_time: run.start_time,
            end_time: run.end_time,
            artifact_uri: run.artifact_uri,
            lifecycle_stage: run.lifecycle_stage.as_str(),
            run_id: run.run_id,
        }
    }
}

impl From<Metric> for MetricJson {
    fn from(metric: Metric) -> Self {
        Self {
            key: metric.key,
            value: metric.value,
            timestamp: metric.timestamp,
            step: metric.step,
        }
    }
}

impl From<DatasetInput> for DatasetInputJson {
    fn from(input: DatasetInput) -> Self {
        let dataset = input.dataset;
        Self {
            tags: input.tags.into_iter().map(KeyValue::from).collect(),
            dataset: DatasetJson {
                name: dataset.name,
                digest: dataset.digest,
                source_type: dataset.source_type,
                source: dataset.source,
                schema: dataset.schema,
                profile: dataset.profile,
            },
        }
    }
}

impl From<RunRecord> for RunJson {
    fn from(record: RunRecord) -> Self {
        let model_inputs = record.model_inputs.into_iter();
        let model_outputs = record.model_outputs.into_iter();
        Self {
            info: record.run.into(),
            data: RunData {
                metrics: record.metrics.into_iter().map(MetricJson::from).collect(),
                params: record.params.into_iter().map(KeyValue::from).collect(),
                tags: record.tags.into_iter().map(KeyValue::from).collect(),
            },
            inputs: Inputs {
                dataset_inputs: record
                    .datasets
                    .into_iter()
                    .map(DatasetInputJson::from)
                    .collect(),
                model_inputs: model_inputs
                    .map(|model_id| ModelInput { model_id })
                    .collect(),
            },
            outputs: Outputs {
                model_outputs: model_outputs
                    .map(|(model_id, step)| ModelOutput { model_id, step })
                    .collect(),
            },
        }
    }
}
