//! What an MLflow server tracked.

use db::{Error, Row};
use tracking::import::{
    ImportedDataset, ImportedInput, ImportedMetric, ImportedModelLink, ImportedPair, ImportedRun,
    PairKind,
};
use tracking::{
    Dataset, Direction, Experiment, LifecycleStage, LoggedModel, LoggedModelMetric,
    LoggedModelStatus, Metric, RunStatus,
};

use super::Source;

impl Source {
    pub(crate) async fn experiments<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<Experiment>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "experiments";
        let columns = [
            self.int(table, "experiment_id"),
            self.text(table, "name"),
            self.text(table, "artifact_location"),
            self.text(table, "lifecycle_stage"),
            self.int(table, "creation_time"),
            self.int(table, "last_update_time"),
        ];
        let rest = format!("WHERE {} ORDER BY 1", self.of_workspace(table));
        let read = |row: &Row| {
            let creation_time = row.get::<Option<i64>, _>(4).unwrap_or_default();
            Experiment {
                experiment_id: row.get::<i64, _>(0).to_string(),
                name: text(row, 1),
                artifact_location: text(row, 2),
                lifecycle_stage: LifecycleStage::read(&text(row, 3)),
                creation_time,
                last_update_time: row.get::<Option<i64>, _>(5).unwrap_or(creation_time),
                job_id: None,
                tags: Vec::new(),
            }
        };
        self.read(table, &columns, &rest, read, each).await
    }

    pub(crate) async fn runs<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedRun>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "runs";
        let columns = [
            self.text(table, "run_uuid"),
            self.int(table, "experiment_id"),
            self.text(table, "name"),
            self.text(table, "status"),
            self.text(table, "lifecycle_stage"),
            self.text(table, "user_id"),
            self.int(table, "start_time"),
            self.int(table, "end_time"),
            self.int(table, "deleted_time"),
            self.text(table, "artifact_uri"),
        ];
        let read = |row: &Row| ImportedRun {
            run_id: text(row, 0),
            experiment_id: row.get::<Option<i64>, _>(1).unwrap_or(-1).to_string(),
            name: text(row, 2),
            status: RunStatus::parse(&text(row, 3)).unwrap_or(RunStatus::Running),
            lifecycle_stage: LifecycleStage::read(&text(row, 4)),
            user_id: text(row, 5),
            start_time: row.get::<Option<i64>, _>(6).unwrap_or_default(),
            end_time: row.get(7),
            // 0 was written for "never" by some versions.
            deleted_time: row.get::<Option<i64>, _>(8).filter(|time| *time > 0),
            artifact_uri: text(row, 9),
        };
        self.read(table, &columns, "", read, each).await
    }

    pub(crate) async fn pairs<E: From<Error>>(
        &mut self,
        kind: PairKind,
        each: impl AsyncFnMut(Vec<ImportedPair>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (table, owner, key, value) = match kind {
            PairKind::ExperimentTag => ("experiment_tags", "experiment_id", "key", "value"),
            PairKind::Param => ("params", "run_uuid", "key", "value"),
            PairKind::RunTag => ("tags", "run_uuid", "key", "value"),
            PairKind::LoggedModelParam => (
                "logged_model_params",
                "model_id",
                "param_key",
                "param_value",
            ),
            PairKind::LoggedModelTag => ("logged_model_tags", "model_id", "tag_key", "tag_value"),
            PairKind::EvaluationDatasetTag => {
                ("evaluation_dataset_tags", "dataset_id", "key", "value")
            }
            PairKind::TraceTag => ("trace_tags", "request_id", "key", "value"),
            PairKind::TraceMetadata => ("trace_request_metadata", "request_id", "key", "value"),
        };
        let columns = [owner, key, value].map(|column| self.text(table, column));
        let read = |row: &Row| ImportedPair {
            owner: text(row, 0),
            key: text(row, 1),
            value: text(row, 2),
        };
        self.read(table, &columns, "", read, each).await
    }

    /// The points of all metrics, or those of the table of the latest ones.
    pub(crate) async fn metrics<E: From<Error>>(
        &mut self,
        latest: bool,
        each: impl AsyncFnMut(Vec<ImportedMetric>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = if latest { "latest_metrics" } else { "metrics" };
        let columns = [
            self.text(table, "run_uuid"),
            self.text(table, "key"),
            self.cast(table, "value", "DOUBLE PRECISION"),
            format!("{table}.is_nan"),
            self.int(table, "timestamp"),
            self.int(table, "step"),
        ];
        let read = |row: &Row| ImportedMetric {
            run_id: text(row, 0),
            metric: Metric {
                key: text(row, 1),
                value: value(row, 2, row.get::<Option<bool>, _>(3).unwrap_or_default()),
                timestamp: row.get::<Option<i64>, _>(4).unwrap_or_default(),
                step: row.get::<Option<i64>, _>(5).unwrap_or_default(),
            },
        };
        self.read(table, &columns, "", read, each).await
    }

    pub(crate) async fn datasets<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedDataset>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "datasets";
        let columns = [
            "dataset_uuid",
            "experiment_id",
            "name",
            "digest",
            "dataset_source_type",
            "dataset_source",
            "dataset_schema",
            "dataset_profile",
        ]
        .map(|column| self.text(table, column));
        let read = |row: &Row| ImportedDataset {
            dataset_id: text(row, 0),
            experiment_id: text(row, 1),
            dataset: Dataset {
                name: text(row, 2),
                digest: text(row, 3),
                source_type: text(row, 4),
                source: text(row, 5),
                schema: row.get(6),
                profile: row.get(7),
            },
        };
        self.read(table, &columns, "", read, each).await
    }

    /// Which datasets runs read; or, with `tags`, the tags of that.
    pub(crate) async fn inputs<E: From<Error>>(
        &mut self,
        tags: bool,
        each: impl AsyncFnMut(Vec<ImportedInput>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut columns = vec![
            self.text("inputs", "destination_id"),
            self.text("inputs", "source_id"),
        ];
        let of_runs = "inputs.source_type = 'DATASET' AND inputs.destination_type = 'RUN'";
        let rest = match tags {
            false => format!("WHERE {of_runs}"),
            true => {
                columns.extend(["name", "value"].map(|c| self.text("input_tags", c)));
                format!(
                    "JOIN input_tags ON input_tags.input_uuid = inputs.input_uuid WHERE {of_runs}"
                )
            }
        };
        let read = |row: &Row| ImportedInput {
            run_id: text(row, 0),
            dataset_id: text(row, 1),
            tag: tags.then(|| (text(row, 2), text(row, 3))),
        };
        self.read("inputs", &columns, &rest, read, each).await
    }

    pub(crate) async fn model_links<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedModelLink>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = [
            self.text("inputs", "source_id"),
            self.text("inputs", "destination_type"),
            self.text("inputs", "destination_id"),
            self.int("inputs", "step"),
        ];
        let rest = "WHERE inputs.destination_type IN ('MODEL_INPUT', 'MODEL_OUTPUT')";
        let read = |row: &Row| ImportedModelLink {
            run_id: text(row, 0),
            direction: match text(row, 1).as_str() {
                "MODEL_INPUT" => Direction::Input,
                _ => Direction::Output,
            },
            model_id: text(row, 2),
            step: row.get::<Option<i64>, _>(3).unwrap_or_default(),
        };
        self.read("inputs", &columns, rest, read, each).await
    }

    pub(crate) async fn logged_models<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<LoggedModel>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "logged_models";
        let columns = [
            self.text(table, "model_id"),
            self.text(table, "experiment_id"),
            self.text(table, "name"),
            self.text(table, "artifact_location"),
            self.int(table, "creation_timestamp_ms"),
            self.int(table, "last_updated_timestamp_ms"),
            self.int(table, "status"),
            self.text(table, "status_message"),
            self.text(table, "lifecycle_stage"),
            self.text(table, "model_type"),
            self.text(table, "source_run_id"),
        ];
        let read = |row: &Row| LoggedModel {
            model_id: text(row, 0),
            experiment_id: text(row, 1),
            name: text(row, 2),
            artifact_uri: text(row, 3),
            creation_time: row.get::<Option<i64>, _>(4).unwrap_or_default(),
            last_update_time: row.get::<Option<i64>, _>(5).unwrap_or_default(),
            status: LoggedModelStatus::from_number(row.get::<Option<i64>, _>(6).unwrap_or(1))
                .unwrap_or(LoggedModelStatus::Pending),
            status_message: row.get(7),
            lifecycle_stage: LifecycleStage::read(&text(row, 8)),
            model_type: row.get(9),
            source_run_id: row.get(10),
            job_id: None,
            tags: Default::default(),
            params: Default::default(),
            metrics: Vec::new(),
        };
        self.read(table, &columns, "", read, each).await
    }

    pub(crate) async fn model_metrics<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<(String, LoggedModelMetric)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "logged_model_metrics";
        let columns = [
            self.text(table, "model_id"),
            self.text(table, "metric_name"),
            self.cast(table, "metric_value", "DOUBLE PRECISION"),
            self.int(table, "metric_timestamp_ms"),
            self.int(table, "metric_step"),
            self.text(table, "run_id"),
            self.text(table, "dataset_name"),
            self.text(table, "dataset_digest"),
        ];
        let read = |row: &Row| {
            let metric = LoggedModelMetric {
                key: text(row, 1),
                value: value(row, 2, false),
                timestamp: row.get::<Option<i64>, _>(3).unwrap_or_default(),
                step: row.get::<Option<i64>, _>(4).unwrap_or_default(),
                run_id: text(row, 5),
                dataset_name: text(row, 6),
                dataset_digest: text(row, 7),
            };
            (text(row, 0), metric)
        };
        self.read(table, &columns, "", read, each).await
    }
}

/// A text; MLflow's nulls are empty.
pub(super) fn text(row: &Row, column: usize) -> String {
    row.get::<Option<String>, _>(column).unwrap_or_default()
}

/// A value of a metric; SQLite has no NaN but null.
fn value(row: &Row, column: usize, is_nan: bool) -> f64 {
    match row.get::<Option<f64>, _>(column) {
        Some(value) if !is_nan => value,
        _ => f64::NAN,
    }
}
