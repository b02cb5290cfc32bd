//! The traces of an MLflow server.

use db::{Error, Row};
use serde_json::{Map, Value, json};
use tracking::import::{ImportedAssessment, ImportedSpan};
use tracking::{Span, Trace, TraceState};
use web::Timestamp;

use super::Source;
use super::tracking::text;

impl Source {
    pub(crate) async fn traces<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<Trace>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "trace_info";
        let columns = [
            self.text(table, "request_id"),
            self.text(table, "experiment_id"),
            self.int(table, "timestamp_ms"),
            self.int(table, "execution_time_ms"),
            self.text(table, "status"),
            self.text(table, "client_request_id"),
            self.text(table, "request_preview"),
            self.text(table, "response_preview"),
        ];
        let read = |row: &Row| Trace {
            trace_id: text(row, 0),
            experiment_id: text(row, 1),
            request_time: row.get::<Option<i64>, _>(2).unwrap_or_default(),
            duration_ms: row.get(3),
            state: TraceState::parse(&text(row, 4)),
            client_request_id: row.get(5),
            request_preview: row.get(6),
            response_preview: row.get(7),
            ..Trace::default()
        };
        self.read(table, &columns, "", read, each).await
    }

    /// The spans in the database; those that cannot be read are `None`.
    pub(crate) async fn spans<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<Option<ImportedSpan>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = ["trace_id", "content"].map(|column| self.text("spans", column));
        let read = |row: &Row| {
            Some(ImportedSpan {
                trace_id: text(row, 0),
                span: Span::read_mlflow_json(&text(row, 1))?,
            })
        };
        self.read("spans", &columns, "", read, each).await
    }

    pub(crate) async fn assessments<E: From<Error>>(
        &mut self,
        each: impl AsyncFnMut(Vec<ImportedAssessment>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = "assessments";
        let mut columns: Vec<String> = [
            "assessment_id",
            "trace_id",
            "name",
            "assessment_type",
            "value",
            "error",
            "source_type",
            "source_id",
            "span_id",
            "rationale",
            "overrides",
            "assessment_metadata",
        ]
        .iter()
        .map(|column| self.text(table, column))
        .collect();
        columns.extend(["created_timestamp", "last_updated_timestamp"].map(|c| self.int(table, c)));
        columns.push(format!("{table}.valid"));
        self.read(table, &columns, "", assessment, each).await
    }
}

/// Makes the message that clients read of a row.
fn assessment(row: &Row) -> ImportedAssessment {
    let parsed = |column| serde_json::from_str::<Value>(&text(row, column)).ok();
    let created_at = row.get::<Option<i64>, _>(12).unwrap_or_default();
    let updated_at = row.get::<Option<i64>, _>(13).unwrap_or(created_at);
    let value = parsed(4).unwrap_or_default();
    let kind = text(row, 3);
    let mut message = json!({
        "assessment_id": text(row, 0),
        "trace_id": text(row, 1),
        "assessment_name": text(row, 2),
        "source": {"source_type": text(row, 6), "source_id": text(row, 7)},
        "create_time": Timestamp(created_at),
        "last_update_time": Timestamp(updated_at),
        "valid": row.get::<Option<bool>, _>(14).unwrap_or(true),
    });
    message[kind.as_str()] = match kind.as_str() {
        "issue" => json!({"issue_name": value}),
        "expectation" if value.is_object() || value.is_array() => {
            json!({"serialized_value": {"value": value.to_string(), "serialization_format": "JSON_FORMAT"}})
        }
        _ => json!({"value": value}),
    };
    if let Some(error) = parsed(5) {
        message[kind.as_str()]["error"] = error;
    }
    for (column, field) in [(8, "span_id"), (9, "rationale"), (10, "overrides")] {
        if let Some(text) = row.get::<Option<String>, _>(column) {
            message[field] = text.into();
        }
    }
    if let Some(metadata) = parsed(11) {
        message["metadata"] = metadata;
    }
    ImportedAssessment {
        assessment_id: text(row, 0),
        trace_id: text(row, 1),
        message: match message {
            Value::Object(map) => map,
            _ => Map::new(),
        },
        created_at,
    }
}
