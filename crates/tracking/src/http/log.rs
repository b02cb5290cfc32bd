//! MLflow's routes that write to a run: metrics, params, tags, batches.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use web::{Caller, Permission, Routes};

use super::runs::run_id;
use crate::batch::Batch;
use crate::error::Error;
use crate::metric::{self, LoggedMetric, Metric};
use crate::wire::{
    Double, Empty, Int, KeyValue, List, MlflowRequest, MlflowResult, pairs, required,
};
use crate::{Tracking, key};

/// The routes under one prefix, `/api` or `/ajax-api`.
pub(super) fn add(routes: Routes<Tracking>, prefix: &str) -> Routes<Tracking> {
    use Permission::WriteTracking;
    let path = |name: &str| format!("{prefix}/2.0/mlflow/runs/{name}");
    routes
        .post(&path("log-metric"), WriteTracking, log_metric)
        .post(&path("log-parameter"), WriteTracking, log_param)
        .post(&path("set-tag"), WriteTracking, set_tag)
        .post(&path("delete-tag"), WriteTracking, delete_tag)
        .post(&path("log-batch"), WriteTracking, log_batch)
        .post(&path("log-model"), WriteTracking, log_model)
}

#[derive(Deserialize)]
struct MetricFields {
    key: Option<String>,
    value: Option<Double>,
    timestamp: Option<Int>,
    step: Option<Int>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

/// All fields by name: a flattened [`MetricFields`] would keep an error from naming its field.
#[derive(Deserialize)]
struct LogMetricRequest {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<Double>,
    timestamp: Option<Int>,
    step: Option<Int>,
    model_id: Option<String>,
    dataset_name: Option<String>,
    dataset_digest: Option<String>,
}

#[derive(Deserialize)]
struct PairRequest {
    run_id: Option<String>,
    run_uuid: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

impl PairRequest {
    /// The run, and the key with its value.
    fn read(self) -> Result<(String, (String, String)), Error> {
        let id = run_id(self.run_id, self.run_uuid)?;
        let key = required(self.key, "key")?;
        key::check(&key, "key")?;
        Ok((id, (key, self.value.unwrap_or_default())))
    }
}

#[derive(Deserialize)]
struct LogBatchRequest {
    run_id: Option<String>,
    #[serde(default)]
    metrics: List<MetricFields>,
    #[serde(default)]
    params: List<KeyValue>,
    #[serde(default)]
    tags: List<KeyValue>,
}

#[derive(Deserialize)]
struct LogModelRequest {
    run_id: Option<String>,
    model_json: Option<String>,
}

impl MetricFields {
    /// Reads a point; `name` gives the name of a field in errors.
    fn read(self, name: impl Fn(&str) -> String) -> Result<LoggedMetric, Error> {
        let missing = |field: &str| Error::Missing(name(field));
        let key = self.key.filter(|key| !key.is_empty());
        Ok(LoggedMetric {
            metric: Metric {
                key: key.ok_or_else(|| missing("key"))?,
                value: self.value.ok_or_else(|| missing("value"))?.0,
                timestamp: self.timestamp.ok_or_else(|| missing("timestamp"))?.0,
                step: self.step.map_or(0, |step| step.0),
            },
            model_id: self.model_id.filter(|id| !id.is_empty()),
            dataset_name: self.dataset_name,
            dataset_digest: self.dataset_digest,
        })
    }
}

async fn log_metric(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LogMetricRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let fields = MetricFields {
        key: request.key,
        value: request.value,
        timestamp: request.timestamp,
        step: request.step,
        model_id: request.model_id,
        dataset_name: request.dataset_name,
        dataset_digest: request.dataset_digest,
    };
    let metrics = vec![fields.read(str::to_owned)?];
    metric::check(&metrics, |_, field| field.to_owned())?;
    let batch = Batch {
        metrics,
        ..Batch::default()
    };
    tracking.log_batch(&id, batch, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn log_param(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<PairRequest>,
) -> MlflowResult<Empty> {
    let (id, param) = request.read()?;
    let batch = Batch {
        params: vec![param],
        ..Batch::default()
    };
    tracking.log_batch(&id, batch, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn set_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<PairRequest>,
) -> MlflowResult<Empty> {
    let (id, tag) = request.read()?;
    let batch = Batch {
        tags: vec![tag],
        ..Batch::default()
    };
    tracking.log_batch(&id, batch, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn delete_tag(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<PairRequest>,
) -> MlflowResult<Empty> {
    let id = run_id(request.run_id, request.run_uuid)?;
    let key = required(request.key, "key")?;
    tracking.delete_run_tag(&id, &key, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn log_batch(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LogBatchRequest>,
) -> MlflowResult<Empty> {
    let id = required(request.run_id, "run_id")?;
    let metrics = request.metrics.0.into_iter().enumerate();
    let metrics =
        metrics.map(|(index, metric)| metric.read(|field| format!("metrics[{index}].{field}")));
    let batch = Batch {
        metrics: metrics.collect::<Result<_, _>>()?,
        params: pairs(request.params, "params")?,
        tags: pairs(request.tags, "tags")?,
    };
    tracking.log_batch(&id, batch, caller.job_id()).await?;
    Ok(Json(Empty {}))
}

async fn log_model(
    State(tracking): State<Tracking>,
    Caller(caller): Caller,
    MlflowRequest(request): MlflowRequest<LogModelRequest>,
) -> MlflowResult<Empty> {
    let id = required(request.run_id, "run_id")?;
    let model = required(request.model_json, "model_json")?;
    tracking.record_model(&id, &model, caller.job_id()).await?;
    Ok(Json(Empty {}))
}
