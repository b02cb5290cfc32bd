//! A model to train, as it is asked for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::estimator::Framework;
use super::rows::Rows;

/// A model to train, as it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct TrainingRequest {
    pub(crate) framework: Framework,
    pub(crate) model_type: String,
    pub(crate) views: Vec<ViewFeatures>,
    pub(crate) rows: Rows,
    pub(crate) target: String,
    pub(crate) hyperparameters: Map<String, Value>,
    pub(crate) split: Split,
    /// Empty: the usual ones.
    pub(crate) metrics: Vec<String>,
    /// The snapshot to read a view at, by its name; absent: the newest.
    pub(crate) snapshots: BTreeMap<String, i64>,
}

/// A view, and which of its features are wanted; none: all.
#[derive(Debug, Clone)]
pub(crate) struct ViewFeatures {
    pub(crate) view: String,
    pub(crate) features: Vec<String>,
}

/// Which rows are held back to measure the model.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) test_size: f64,
    pub(crate) random_state: i64,
    pub(crate) stratify: bool,
    /// The latest rows are held back, not any.
    pub(crate) by_time: bool,
}
