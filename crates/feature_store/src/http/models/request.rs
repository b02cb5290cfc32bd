//! What is to be trained, of what: the body of `POST /mlops/models`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use web::{ApiError, FieldError};

use crate::table::{LOCAL_CATALOG, TableRef};
use crate::training::{Framework, Rows, Split, TrainingPlan, TrainingRequest, ViewFeatures};

/// A model to train from features.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "model_name": "churn_predictor",
    "framework": "sklearn",
    "model_type": "random_forest_classifier",
    "data_source": {
        "feature_views": ["customer_churn_features"],
        "label_table": {"schema": "gold", "table_name": "churn_labels"},
        "target_column": "churned"
    },
    "hyperparameters": {"n_estimators": 100}
}))]
pub(super) struct TrainModelRequest {
    pub(super) model_name: String,
    /// Absent: the model's name.
    pub(super) experiment_name: Option<String>,
    /// `sklearn`, `xgboost`, `lightgbm`.
    framework: String,
    /// A class of the framework: `RandomForestClassifier`, or `random_forest_classifier`.
    model_type: String,
    data_source: DataSource,
    /// The arguments of the class, also as `{"params": {...}}`.
    #[serde(default)]
    #[schema(value_type = Object)]
    hyperparameters: Map<String, Value>,
    #[serde(default)]
    split: SplitRequest,
    /// Of classes `accuracy precision recall f1 roc_auc log_loss`, of numbers `rmse mae r2 mse
    /// mape`; absent: the first four, or the first three.
    #[serde(default)]
    metrics: Vec<String>,
    /// The snapshot to read a view at, by the view's name; absent: the newest now.
    #[serde(default)]
    snapshots: BTreeMap<String, i64>,
    /// Tags of the run and of the model version.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// How long the script may run, in seconds.
    timeout: Option<u32>,
    /// Packages beside those of the framework.
    #[serde(default)]
    requirements: Vec<String>,
}

/// What to learn from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DataSource {
    feature_views: Vec<ViewRequest>,
    /// The rows to join features to: join keys, `event_timestamp`, and the target where it is no
    /// feature; `{"column": [values]}` or `[{"column": value}]`. Without these and without a
    /// `label_table`, every row of the first view's own table.
    #[schema(value_type = Option<Value>)]
    entities: Option<Value>,
    /// A table with such rows.
    label_table: Option<LabelTable>,
    /// A column of the rows, or a feature, which is then not learned from.
    target_column: String,
}

/// A view, by name alone: all its features. `VIEW:FEATURE` is one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum ViewRequest {
    Name(String),
    Features {
        name: String,
        #[serde(default)]
        features: Vec<String>,
    },
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LabelTable {
    schema: String,
    #[serde(alias = "table")]
    table_name: String,
    catalog: Option<String>,
    /// The column with the time of a label; absent: the only timestamp column, or the one called
    /// `event_timestamp`.
    timestamp_field: Option<String>,
    snapshot_id: Option<i64>,
}

/// Which rows are held back to measure the model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct SplitRequest {
    /// Their share, between 0 and 1.
    #[schema(default = 0.2)]
    test_size: f64,
    #[schema(default = 42)]
    random_state: i64,
    /// Whether both parts have the same share of each class.
    stratify: bool,
    /// `random`, or `time`: the latest rows.
    #[schema(default = "random")]
    method: String,
}

impl Default for SplitRequest {
    fn default() -> Self {
        Self {
            test_size: 0.2,
            random_state: 42,
            stratify: false,
            method: "random".to_owned(),
        }
    }
}

impl SplitRequest {
    fn parse(self, refused: &mut Vec<FieldError>) -> Split {
        if !(self.test_size > 0.0 && self.test_size < 1.0) {
            let said = "must be more than 0 and less than 1";
            refused.push(FieldError::body(["split", "test_size"], said));
        }
        let by_time = self.method == "time";
        if !by_time && self.method != "random" {
            let said = format!("{:?} is neither random nor time", self.method);
            refused.push(FieldError::body(["split", "method"], said));
        }
        if by_time && self.stratify {
            let said = "the latest rows cannot also have the same share of each class";
            refused.push(FieldError::body(["split", "stratify"], said));
        }
        if !(0..=i64::from(u32::MAX)).contains(&self.random_state) {
            let said = "must be between 0 and 4294967295";
            refused.push(FieldError::body(["split", "random_state"], said));
        }
        Split {
            test_size: self.test_size,
            random_state: self.random_state,
            stratify: self.stratify,
            by_time,
        }
    }
}

impl DataSource {
    fn rows(&mut self, refused: &mut Vec<FieldError>) -> Rows {
        match (self.entities.take(), self.label_table.take()) {
            (Some(_), Some(_)) => {
                let said = "give entities or label_table, not both";
                refused.push(FieldError::body(["data_source", "entities"], said));
                Rows::OfFirstView
            }
            (Some(entities), None) => Rows::Inline(entities),
            (None, None) => Rows::OfFirstView,
            (None, Some(labels)) => Rows::Table {
                table: TableRef {
                    catalog: labels.catalog.unwrap_or_else(|| LOCAL_CATALOG.to_owned()),
                    schema: labels.schema,
                    name: labels.table_name,
                },
                timestamp_field: labels.timestamp_field,
                snapshot: labels.snapshot_id,
            },
        }
    }
}

/// The views by name, with the features of several `VIEW:FEATURE` of one view together.
fn views(asked: Vec<ViewRequest>) -> Vec<ViewFeatures> {
    let mut views: Vec<ViewFeatures> = Vec::new();
    for one in asked {
        let (view, features) = match one {
            ViewRequest::Features { name, features } => (name, features),
            ViewRequest::Name(name) => match name.split_once(':') {
                Some((view, feature)) => (view.to_owned(), vec![feature.to_owned()]),
                None => (name, Vec::new()),
            },
        };
        match views.iter_mut().find(|known| known.view == view) {
            Some(known) if !known.features.is_empty() && !features.is_empty() => {
                known.features.extend(features);
            }
            Some(known) => known.features.clear(),
            None => views.push(ViewFeatures { view, features }),
        }
    }
    views
}

impl TrainModelRequest {
    pub(super) fn parse(&mut self) -> Result<TrainingRequest, ApiError> {
        let mut refused = Vec::new();
        let framework = Framework::parse(&self.framework).unwrap_or_else(|| {
            let there = Framework::ALL.map(|(_, name)| name).join(", ");
            let said = format!(
                "there is no framework {:?}; there are: {there}",
                self.framework
            );
            refused.push(FieldError::body(["framework"], said));
            Framework::Sklearn
        });
        if self.data_source.feature_views.is_empty() {
            let said = "name at least one feature view";
            refused.push(FieldError::body(["data_source", "feature_views"], said));
        }
        let split = std::mem::take(&mut self.split).parse(&mut refused);
        let rows = self.data_source.rows(&mut refused);
        if !refused.is_empty() {
            return Err(ApiError::fields(refused));
        }
        let mut hyperparameters = std::mem::take(&mut self.hyperparameters);
        if let Some(Value::Object(params)) = hyperparameters.get_mut("params") {
            hyperparameters = std::mem::take(params);
        }
        Ok(TrainingRequest {
            framework,
            model_type: self.model_type.clone(),
            views: views(std::mem::take(&mut self.data_source.feature_views)),
            rows,
            target: self.data_source.target_column.clone(),
            hyperparameters,
            split,
            metrics: std::mem::take(&mut self.metrics),
            snapshots: std::mem::take(&mut self.snapshots),
        })
    }

    /// The body of the upload that runs the script.
    pub(super) fn upload(self, framework: Framework, plan: &TrainingPlan) -> Map<String, Value> {
        let script_name = format!("train_{}", plan.estimator.class);
        let mut requirements: Vec<String> = framework
            .requirements()
            .into_iter()
            .map(str::to_owned)
            .collect();
        requirements.extend(self.requirements);
        let mut tags = self.tags;
        for (name, id) in &plan.snapshots {
            tags.insert(format!("feast.snapshot.{name}"), id.to_string());
        }
        let experiment = self
            .experiment_name
            .unwrap_or_else(|| self.model_name.clone());
        let mut body = Map::new();
        for (field, value) in [
            ("script_name", json!(script_name)),
            ("script_content", json!(plan.script())),
            ("script_encoding", json!("plain")),
            ("experiment_name", json!(experiment)),
            ("model_name", json!(self.model_name)),
            ("requirements", json!(requirements)),
            ("tags", json!(tags)),
            ("timeout", json!(self.timeout)),
            ("require_model", json!(true)),
        ] {
            body.insert(field.to_owned(), value);
        }
        body
    }
}
