//! What is trained, of what: a request checked against the views and tables that it names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use web::FieldError;

use super::estimator::Estimator;
use super::metric::Metric;
use super::request::{Split, TrainingRequest, ViewFeatures};
use super::rows::RowsOf;
use super::script;
use crate::FeatureStore;
use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::historical::ViewUse;
use crate::registry::PROJECT;

/// All that a script is made of.
#[derive(Debug, Clone)]
pub(crate) struct TrainingPlan {
    pub(crate) estimator: Estimator,
    pub(crate) hyperparameters: Map<String, Value>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) split: Split,
    /// The body of `POST /feast/historical`.
    pub(crate) question: Value,
    /// Columns of the answer.
    pub(crate) numbers: Vec<String>,
    pub(crate) texts: Vec<String>,
    pub(crate) target: String,
    pub(crate) time: String,
    /// The snapshot of each view, and of the table of entity rows under `labels`.
    pub(crate) snapshots: BTreeMap<String, i64>,
}

impl TrainingPlan {
    /// The script of the job.
    pub(crate) fn script(&self) -> String {
        script::write(self)
    }
}

impl FeatureStore {
    /// Checks what is to be trained, and fixes the snapshots that it reads.
    ///
    /// # Errors
    /// When a view, column, kind of model or metric is not there; what is there is named.
    pub(crate) async fn plan_training(
        &self,
        request: TrainingRequest,
    ) -> Result<TrainingPlan, Error> {
        let (estimator, metrics) = named(&request)?;
        check_hyperparameters(&request.hyperparameters)?;
        let mut views = Vec::new();
        for wanted in &request.views {
            views.push(self.view_of(wanted).await?);
        }
        let mut snapshots = BTreeMap::new();
        for used in &views {
            let id = self.snapshot_of(used, &request.snapshots).await?;
            snapshots.insert(used.view.name.clone(), id);
        }
        if let Some(name) = request
            .snapshots
            .keys()
            .find(|n| !snapshots.contains_key(*n))
        {
            return Err(Error::Invalid(format!(
                "snapshots names {name:?}, a view that is not read"
            )));
        }
        let rows = self.rows_of(&request, &views).await?;
        if !rows.columns.contains(&request.target) && !names_feature(&views, &request.target) {
            return Err(no_target(&request.target, &rows, &views));
        }
        let full = has_same_names(&views);
        let inputs = Inputs::of(&views, &rows, &request.target, full)?;
        let question = json!({
            "features": inputs.asked,
            rows.field: rows.value,
            "snapshots": snapshots,
            "full_feature_names": full,
            "format": "parquet",
        });
        if let Some(id) = rows.snapshot {
            snapshots.insert("labels".to_owned(), id);
        }
        Ok(TrainingPlan {
            estimator,
            hyperparameters: request.hyperparameters,
            metrics,
            split: request.split,
            question,
            numbers: inputs.numbers,
            texts: inputs.texts,
            target: inputs.target,
            time: rows.time,
            snapshots,
        })
    }

    async fn view_of(&self, wanted: &ViewFeatures) -> Result<ViewUse, Error> {
        let view = self.feature_view(PROJECT, &wanted.view).await?;
        let mut used = ViewUse::new(view, wanted.view.clone());
        used.features = if wanted.features.is_empty() {
            used.view.features.iter().map(|f| f.name.clone()).collect()
        } else {
            for name in &wanted.features {
                used.view.feature(name)?;
            }
            wanted.features.clone()
        };
        Ok(used)
    }

    async fn snapshot_of(
        &self,
        used: &ViewUse,
        asked: &BTreeMap<String, i64>,
    ) -> Result<i64, Error> {
        let name = used.view.table()?;
        let table = self.catalogs.table(name).await?;
        let metadata = table.metadata();
        if let Some(id) = asked.get(&used.view.name) {
            return match metadata.snapshot_by_id(*id) {
                Some(_) => Ok(*id),
                None => Err(Error::Invalid(format!(
                    "table {name} of feature view '{}' has no snapshot {id}; its newest is {}",
                    used.view.name,
                    metadata
                        .current_snapshot_id()
                        .map_or("none".to_owned(), |id| id.to_string())
                ))),
            };
        }
        metadata.current_snapshot_id().ok_or_else(|| {
            Error::Invalid(format!(
                "table {name} of feature view '{}' has no rows yet",
                used.view.name
            ))
        })
    }
}

/// Which features are asked for, and which columns of the answer they are.
struct Inputs {
    asked: Vec<String>,
    numbers: Vec<String>,
    texts: Vec<String>,
    target: String,
}

impl Inputs {
    fn of(views: &[ViewUse], rows: &RowsOf, target: &str, full: bool) -> Result<Self, Error> {
        let is_feature = !rows.columns.iter().any(|column| column == target);
        let mut inputs = Self {
            asked: Vec::new(),
            numbers: Vec::new(),
            texts: Vec::new(),
            target: target.to_owned(),
        };
        for used in views {
            for name in &used.features {
                if rows.columns.contains(name) {
                    // A key, the time or the label itself.
                    continue;
                }
                inputs.asked.push(format!("{}:{name}", used.alias));
                let column = used.answer_name(name, full);
                let dtype = used.view.feature(name)?.dtype;
                if is_feature && name == target {
                    inputs.target = column;
                } else if is_text(dtype, &used.view.name, name)? {
                    inputs.texts.push(column);
                } else {
                    inputs.numbers.push(column);
                }
            }
        }
        if inputs.numbers.is_empty() && inputs.texts.is_empty() {
            return Err(Error::Invalid(
                "no feature is left to learn from: all that are named are keys, times or the target"
                    .to_owned(),
            ));
        }
        Ok(inputs)
    }
}

pub(super) fn refused(field: &str, message: String) -> Error {
    Error::Fields(vec![FieldError::body([field], message)])
}

fn named(request: &TrainingRequest) -> Result<(Estimator, Vec<Metric>), Error> {
    let framework = request.framework;
    let estimator = Estimator::find(framework, &request.model_type).ok_or_else(|| {
        refused(
            "model_type",
            format!(
                "{} has no model type {:?}; there are: {}",
                framework.name(),
                request.model_type,
                Estimator::names(framework).join(", ")
            ),
        )
    })?;
    if request.metrics.is_empty() {
        return Ok((estimator, Metric::usual(estimator.task)));
    }
    let metrics = request.metrics.iter().map(|name| {
        let found = Metric::all(estimator.task).find(|m| m.name == *name);
        found.ok_or_else(|| {
            let there: Vec<&str> = Metric::all(estimator.task).map(|m| m.name).collect();
            refused(
                "metrics",
                format!(
                    "there is no metric {name:?} of {}; there are: {}",
                    estimator.class,
                    there.join(", ")
                ),
            )
        })
    });
    Ok((estimator, metrics.collect::<Result<_, _>>()?))
}

fn check_hyperparameters(given: &Map<String, Value>) -> Result<(), Error> {
    let identifier = |name: &str| {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match given.keys().find(|name| !identifier(name)) {
        Some(name) => Err(refused(
            "hyperparameters",
            format!("{name:?} is not the name of an argument"),
        )),
        None => Ok(()),
    }
}

fn names_feature(views: &[ViewUse], name: &str) -> bool {
    views.iter().any(|v| v.features.iter().any(|f| f == name))
}

fn no_target(target: &str, rows: &RowsOf, views: &[ViewUse]) -> Error {
    let features = views.iter().flat_map(|v| &v.features).cloned();
    let there: Vec<String> = rows.columns.iter().cloned().chain(features).collect();
    refused(
        "data_source",
        format!(
            "target_column {target:?} is neither a column of the entity rows nor a feature; there are: {}",
            there.join(", ")
        ),
    )
}

fn has_same_names(views: &[ViewUse]) -> bool {
    let mut seen = BTreeSet::new();
    let mut all = views.iter().flat_map(|v| &v.features);
    all.any(|name| !seen.insert(name))
}

/// Whether a feature is text; what is neither text nor number cannot be learned from.
fn is_text(dtype: Dtype, view: &str, feature: &str) -> Result<bool, Error> {
    match dtype {
        Dtype::Scalar(Scalar::String) => Ok(true),
        Dtype::Scalar(
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::Float | Scalar::Bool,
        ) => Ok(false),
        other => Err(refused(
            "data_source",
            format!(
                "feature {view}:{feature} is {other}, which these models cannot take; name the features to use, numbers, booleans or text, as {{\"name\": {view:?}, \"features\": [...]}}"
            ),
        )),
    }
}
