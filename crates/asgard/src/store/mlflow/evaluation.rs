//! The evaluation datasets and scorers of an MLflow server, and what its traces are linked to.

use db::{Error, Row};
use serde_json::{Map, Value};
use tracking::LinkKind;
use tracking::import::{
    ImportedDatasetUse, ImportedEvaluationDataset, ImportedRecord, ImportedScorer,
    ImportedTraceLink,
};

use super::Source;
use super::tracking::text;

const LINKS: &str = "entity_associations";

/// What stands for outputs that are no object (`DATASET_RECORD_WRAPPED_OUTPUT_KEY`).
const WRAPPED: &str = "mlflow_wrapped";

impl Source {
    pub(crate) async fn evaluation_datasets<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedEvaluationDataset>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "evaluation_datasets";
        let texts = ["dataset_id", "name", "digest", "schema", "profile"];
        let mut columns: Vec<String> = texts.iter().map(|c| self.text(table, c)).collect();
        columns.extend(["created_time", "last_update_time"].map(|c| self.int(table, c)));
        columns.extend(["created_by", "last_updated_by"].map(|c| self.text(table, c)));
        let read = |row: &Row| {
            let created_time = row.get::<Option<i64>, _>(5).unwrap_or_default();
            ImportedEvaluationDataset {
                dataset_id: text(row, 0),
                name: text(row, 1),
                digest: text(row, 2),
                schema: row.get(3),
                profile: row.get(4),
                created_time,
                last_update_time: row.get::<Option<i64>, _>(6).unwrap_or(created_time),
                created_by: row.get(7),
                last_updated_by: row.get(8),
            }
        };
        let rest = format!("WHERE {}", self.of_workspace(table));
        self.read(table, &columns, &rest, read, each).await
    }

    /// The records of all datasets, in the order in which each lists them.
    pub(crate) async fn evaluation_records<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "evaluation_dataset_records";
        let texts = [
            "dataset_id",
            "dataset_record_id",
            "inputs",
            "outputs",
            "expectations",
            "tags",
            "source",
            "source_id",
            "created_by",
            "last_updated_by",
        ];
        let mut columns: Vec<String> = texts.iter().map(|c| self.text(table, c)).collect();
        columns.extend(["created_time", "last_update_time"].map(|c| self.int(table, c)));
        let order = "ORDER BY evaluation_dataset_records.dataset_id,
            evaluation_dataset_records.created_time, evaluation_dataset_records.dataset_record_id";
        self.read(table, &columns, order, record, each).await
    }

    /// Which experiments use which datasets.
    pub(crate) async fn dataset_uses<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedDatasetUse>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = ["source_id", "destination_id"].map(|column| self.text(LINKS, column));
        let rest = "WHERE source_type = 'evaluation_dataset' AND destination_type = 'experiment'";
        let read = |row: &Row| ImportedDatasetUse {
            dataset_id: text(row, 0),
            experiment_id: text(row, 1),
        };
        self.read(LINKS, &columns, rest, read, each).await
    }

    /// The runs and prompt versions that traces are linked to.
    pub(crate) async fn trace_links<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedTraceLink>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = ["source_id", "destination_type", "destination_id"];
        let columns = columns.map(|column| self.text(LINKS, column));
        let rest = "WHERE source_type = 'trace' AND destination_type IN ('run', 'prompt_version')";
        let read = |row: &Row| ImportedTraceLink {
            trace_id: text(row, 0),
            kind: match text(row, 1).as_str() {
                "run" => LinkKind::Run,
                _ => LinkKind::Prompt,
            },
            target: text(row, 2),
        };
        self.read(LINKS, &columns, rest, read, each).await
    }

    /// How many links there are of other kinds.
    pub(crate) async fn other_links(&mut self) -> Result<u64, Error> {
        if !self.has(LINKS, "source_type") {
            return Ok(0);
        }
        let known = "(source_type = 'evaluation_dataset' AND destination_type = 'experiment')
            OR (source_type = 'trace' AND destination_type IN ('run', 'prompt_version'))";
        self.count(LINKS, &format!("NOT ({known})")).await
    }

    /// The versions of scorers.
    pub(crate) async fn scorers<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedScorer>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "scorer_versions";
        let columns = [
            self.text("scorers", "experiment_id"),
            self.text("scorers", "scorer_name"),
            self.int(table, "scorer_version"),
            self.text("scorers", "scorer_id"),
            self.text(table, "serialized_scorer"),
            self.int(table, "creation_time"),
        ];
        let rest = "JOIN scorers ON scorers.scorer_id = scorer_versions.scorer_id
            ORDER BY scorer_versions.scorer_id, scorer_versions.scorer_version";
        let read = |row: &Row| ImportedScorer {
            experiment_id: text(row, 0),
            name: text(row, 1),
            version: row.get::<Option<i64>, _>(2).unwrap_or_default(),
            scorer_id: text(row, 3),
            serialized: text(row, 4),
            created_time: row.get::<Option<i64>, _>(5).unwrap_or_default(),
        };
        self.read(table, &columns, rest, read, each).await
    }
}

fn record(row: &Row) -> ImportedRecord {
    let object =
        |column| -> Option<Map<String, Value>> { serde_json::from_str(&text(row, column)).ok() };
    let created_time = row.get::<Option<i64>, _>(10).unwrap_or_default();
    ImportedRecord {
        dataset_id: text(row, 0),
        record_id: text(row, 1),
        inputs: object(2).unwrap_or_default(),
        outputs: object(3).and_then(|mut outputs| outputs.remove(WRAPPED)),
        expectations: object(4),
        tags: object(5),
        source: object(6),
        source_id: row.get(7),
        created_by: row.get(8),
        last_updated_by: row.get(9),
        created_time,
        last_update_time: row.get::<Option<i64>, _>(11).unwrap_or(created_time),
    }
}
