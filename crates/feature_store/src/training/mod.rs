//! Training from features alone: what a request asks for, checked against views and tables, made
//! into a script that anyone could have written.
//!
//! The script is run as an ordinary job. The snapshots that it reads stand in it, so that running
//! it again reads the same rows.

mod estimator;
mod metric;
mod plan;
mod python;
mod request;
mod rows;
mod script;

pub(crate) use estimator::Framework;
pub(crate) use plan::TrainingPlan;
pub(crate) use request::{Split, TrainingRequest, ViewFeatures};
pub(crate) use rows::Rows;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use web::{ApiError, Identity};

/// Puts a training script into the queue; the binary knows how. Takes the body of an upload.
pub type SubmitScript = Arc<
    dyn Fn(Map<String, Value>, Identity) -> BoxFuture<'static, Result<SubmittedScript, ApiError>>
        + Send
        + Sync,
>;

/// A job that waits.
#[derive(Debug, Clone)]
pub struct SubmittedScript {
    pub job_id: String,
    pub status: String,
    pub created_at: i64,
}
