//! The records of evaluation datasets: inputs, what an application answered to them, and what it
//! should have answered. A record is known by its inputs: the same inputs again change it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use web::Timestamp;

use crate::error::Error;
use crate::evaluation_dataset::{USER_TAG, digest, find_writable};
use crate::import::ImportedRecord;
use crate::store::{evaluation_datasets, evaluation_records};
use crate::{Tracking, id, page};

/// The most records of one page.
const MAX_RESULTS: i64 = 10_000;

/// Where a record comes from (`DatasetRecordSource.SourceType`).
const SOURCES: [&str; 5] = ["UNSPECIFIED", "TRACE", "HUMAN", "DOCUMENT", "CODE"];

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EvaluationRecord {
    pub(crate) record_id: String,
    /// Its place among the records of the dataset.
    pub(crate) position: i64,
    /// The hash of its inputs.
    pub(crate) inputs_hash: String,
    /// What clients get (`DatasetRecord.to_dict`).
    pub(crate) message: Map<String, Value>,
}

/// How many records a write made and changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) inserted: i64,
    pub(crate) updated: i64,
}

/// A record as a client sends it; each part is a JSON value of the client's.
#[derive(Debug, Clone)]
pub(crate) struct RecordFields {
    inputs: Map<String, Value>,
    /// Absent: as it was. Null: none.
    outputs: Option<Value>,
    expectations: Map<String, Value>,
    tags: Map<String, Value>,
    source: Option<Map<String, Value>>,
}

/// Reads the records that a client sends: a JSON array in a text.
pub(crate) fn read_records(text: &str) -> Result<Vec<RecordFields>, Error> {
    let wrong = |error: serde_json::Error| {
        Error::Invalid(format!(
            "'records' must be a JSON array of objects: {error}"
        ))
    };
    let list: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(wrong)?;
    let read = |(index, record)| RecordFields::read(index, record);
    list.into_iter().enumerate().map(read).collect()
}

impl RecordFields {
    fn read(index: usize, mut record: Map<String, Value>) -> Result<Self, Error> {
        let mut object = |part: &str| match record.remove(part) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object),
            Some(_) => Err(Error::Invalid(format!(
                "'records[{index}].{part}' must be a JSON object"
            ))),
        };
        let (inputs, expectations) = (object("inputs")?, object("expectations")?);
        let (tags, source) = (object("tags")?, object("source")?);
        let source = Some(source).filter(|source| !source.is_empty());
        Ok(Self {
            source: source
                .map(|source| read_source(index, source))
                .transpose()?,
            outputs: record.remove("outputs"),
            inputs,
            expectations,
            tags,
        })
    }

    fn user(&self) -> Option<&str> {
        self.tags.get(USER_TAG).and_then(Value::as_str)
    }

    fn inputs_hash(&self) -> String {
        inputs_hash(&self.inputs)
    }

    fn into_message(self, dataset_id: &str, record_id: &str, now: i64) -> Map<String, Value> {
        let mut message = Map::new();
        let mut put = |name: &str, value: Value| message.insert(name.to_owned(), value);
        if let Some(user) = self.user() {
            put("created_by", user.into());
            put("last_updated_by", user.into());
        }
        put("dataset_record_id", record_id.into());
        put("dataset_id", dataset_id.into());
        put("created_time", now.into());
        put("last_update_time", now.into());
        put("inputs", self.inputs.into());
        match self.outputs {
            Some(Value::Null) => None,
            outputs => put("outputs", outputs.unwrap_or_else(|| json!({}))),
        };
        if !self.expectations.is_empty() {
            put("expectations", self.expectations.into());
        }
        put("tags", self.tags.into());
        if let Some(source) = self.source {
            put("source_type", source["source_type"].clone());
            let data = &source["source_data"];
            let id = data.get("trace_id").or_else(|| data.get("source_id"));
            if let Some(id) = id.and_then(Value::as_str) {
                put("source_id", id.into());
            }
            put("source", source.into());
        }
        message
    }

    /// Changes a record that has the same inputs.
    fn merge_into(self, message: &mut Map<String, Value>, now: i64) {
        if let Some(user) = self.user() {
            message.insert("last_updated_by".to_owned(), user.into());
        }
        match self.outputs {
            None => {}
            Some(Value::Null) => _ = message.remove("outputs"),
            Some(outputs) => _ = message.insert("outputs".to_owned(), outputs),
        }
        for (part, new) in [("expectations", self.expectations), ("tags", self.tags)] {
            if new.is_empty() {
                continue;
            }
            let old = message.entry(part).or_insert_with(|| json!({}));
            if let Value::Object(old) = old {
                old.extend(new);
            }
        }
        message.insert("last_update_time".to_owned(), now.into());
    }
}

/// A hash that is the same for the same inputs, in whatever order their names stand.
fn inputs_hash(inputs: &Map<String, Value>) -> String {
    let sorted = sorted(&Value::from(inputs.clone())).to_string();
    let hash = Sha256::digest(sorted);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A record of another server as it is kept here.
pub(crate) fn imported(record: &ImportedRecord, position: i64) -> EvaluationRecord {
    let texts = [
        ("created_by", &record.created_by),
        ("last_updated_by", &record.last_updated_by),
        ("source_id", &record.source_id),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, Value::from(text.clone()?))));
    let source_type = record.source.as_ref().and_then(|s| s.get("source_type"));
    let objects = [
        ("expectations", &record.expectations),
        ("source", &record.source),
    ];
    let objects = objects
        .into_iter()
        .filter_map(|(name, object)| Some((name, Value::from(object.clone()?))));
    let always = [
        ("dataset_record_id", Value::from(record.record_id.clone())),
        ("dataset_id", record.dataset_id.clone().into()),
        ("created_time", record.created_time.into()),
        ("last_update_time", record.last_update_time.into()),
        ("inputs", record.inputs.clone().into()),
        ("tags", record.tags.clone().unwrap_or_default().into()),
    ];
    let fields = always
        .into_iter()
        .chain(record.outputs.clone().map(|outputs| ("outputs", outputs)))
        .chain(source_type.map(|kind| ("source_type", kind.clone())))
        .chain(objects)
        .chain(texts);
    EvaluationRecord {
        record_id: record.record_id.clone(),
        position,
        inputs_hash: inputs_hash(&record.inputs),
        message: fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

fn read_source(index: usize, source: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let named = source.get("source_type").and_then(Value::as_str);
    let named = named.unwrap_or_default().to_ascii_uppercase();
    let Some(kind) = SOURCES.into_iter().find(|kind| *kind == named) else {
        return Err(Error::Invalid(format!(
            "Invalid dataset record source type: '{named}' in records[{index}]. Valid source types: {SOURCES:?}"
        )));
    };
    let data = match source.get("source_data") {
        None | Some(Value::Null) => json!({}),
        Some(data @ Value::Object(_)) => data.clone(),
        Some(_) => {
            return Err(Error::Invalid(format!(
                "'records[{index}].source.source_data' must be a JSON object"
            )));
        }
    };
    let kind = Value::from(kind);
    let source = [("source_type", kind), ("source_data", data)];
    Ok(source
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect())
}

/// The same value with the names of every object in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(object) => {
            let names: BTreeMap<&String, &Value> = object.iter().collect();
            let fields = names
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(fields.collect())
        }
        plain => plain.clone(),
    }
}

/// MLflow's word for the type of a field.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The schema of a dataset after these records: the first type of a field stays.
fn add_to_schema(old: Option<&str>, records: &[RecordFields]) -> String {
    let empty = || json!({"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0"});
    let old = old.and_then(|text| serde_json::from_str(text).ok());
    let mut schema: Value = old.unwrap_or_else(empty);
    let mut add = |part: &str, fields: &Map<String, Value>| {
        if let Some(Value::Object(known)) = schema.get_mut(part) {
            for (name, value) in fields {
                known.entry(name).or_insert_with(|| type_of(value).into());
            }
        }
    };
    let mut plain_output = None;
    for record in records {
        add("inputs", &record.inputs);
        add("expectations", &record.expectations);
        match &record.outputs {
            None | Some(Value::Null) => {}
            Some(Value::Object(outputs)) => add("outputs", outputs),
            Some(other) => plain_output = plain_output.or(Some(type_of(other))),
        }
    }
    // Outputs that are no objects have one type, not a type for each field.
    if let Some(plain) = plain_output
        && schema["outputs"] == json!({})
    {
        schema["outputs"] = plain.into();
    }
    schema.to_string()
}

fn profile(records: i64) -> Option<String> {
    (records > 0).then(|| json!({"num_records": records}).to_string())
}

impl Tracking {
    /// Adds records; those whose inputs a record has already change that record.
    pub(crate) async fn upsert_evaluation_records(
        &self,
        dataset_id: &str,
        records: Vec<RecordFields>,
        job_id: Option<&str>,
    ) -> Result<Written, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let mut dataset = find_writable(&mut tx, dataset_id, job_id, now).await?;
        dataset.schema = Some(add_to_schema(dataset.schema.as_deref(), &records));
        dataset.digest = digest(&dataset.name, now);
        dataset.last_updated_by = records
            .iter()
            .rev()
            .find_map(RecordFields::user)
            .map(str::to_owned);
        let mut known = HashMap::<String, EvaluationRecord>::new();
        let hashes: Vec<String> = records.iter().map(RecordFields::inputs_hash).collect();
        for record in evaluation_records::of_inputs(&mut tx, dataset_id, &hashes).await? {
            known.insert(record.inputs_hash.clone(), record);
        }
        let first_new = evaluation_records::next_position(&mut tx, dataset_id).await?;
        let mut position = first_new;
        let mut written = Written {
            inserted: 0,
            updated: 0,
        };
        let mut changed = Vec::new();
        for (record, inputs_hash) in records.into_iter().zip(hashes) {
            if let Some(old) = known.get_mut(&inputs_hash) {
                record.merge_into(&mut old.message, now);
                written.updated += 1;
                changed.push(inputs_hash);
                continue;
            }
            let record_id = format!("dr-{}", id::random_hex()?);
            let message = record.into_message(dataset_id, &record_id, now);
            let new = EvaluationRecord {
                record_id,
                position,
                inputs_hash: inputs_hash.clone(),
                message,
            };
            known.insert(inputs_hash, new);
            position += 1;
            written.inserted += 1;
        }
        let new = known.values().filter(|record| record.position >= first_new);
        let new: Vec<&EvaluationRecord> = new.collect();
        evaluation_records::insert(&mut tx, dataset_id, &new).await?;
        let changed = changed.iter().map(|hash| &known[hash]);
        for record in changed.filter(|record| record.position < first_new) {
            evaluation_records::update(&mut tx, record).await?;
        }
        dataset.profile = profile(evaluation_records::count(&mut tx, dataset_id).await?);
        evaluation_datasets::update(&mut tx, &dataset).await?;
        tx.commit().await?;
        Ok(written)
    }

    /// A page of records in the order in which they came, and the next page's token.
    pub(crate) async fn list_evaluation_records(
        &self,
        dataset_id: &str,
        max_results: Option<i64>,
        page_token: Option<&str>,
    ) -> Result<(Vec<EvaluationRecord>, Option<String>), Error> {
        let limit = max_results.unwrap_or(1_000);
        if !(1..=MAX_RESULTS).contains(&limit) {
            let reason = format!("It must be at least 1 and at most {MAX_RESULTS}");
            return Err(Error::field("max_results", limit.to_string(), reason));
        }
        let from = page::offset(page_token)?;
        self.get_evaluation_dataset(dataset_id).await?;
        let mut conn = self.db.acquire().await?;
        let mut found = evaluation_records::list(&mut conn, dataset_id, from, limit + 1).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = found.get(most).map(|next| page::token(next.position));
        found.truncate(most);
        Ok((found, next))
    }

    /// Removes records, and tells how many there were of them.
    pub(crate) async fn delete_evaluation_records(
        &self,
        dataset_id: &str,
        record_ids: &[String],
        job_id: Option<&str>,
    ) -> Result<i64, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let mut dataset = find_writable(&mut tx, dataset_id, job_id, now).await?;
        let gone = evaluation_records::delete(&mut tx, dataset_id, record_ids).await?;
        if gone > 0 {
            dataset.digest = digest(&dataset.name, now);
            dataset.profile = profile(evaluation_records::count(&mut tx, dataset_id).await?);
            evaluation_datasets::update(&mut tx, &dataset).await?;
        }
        tx.commit().await?;
        Ok(i64::try_from(gone).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_inputs_are_the_same_record_in_whatever_order_they_stand() {
        let read = |text: &str| read_records(text).unwrap().remove(0).inputs_hash();
        let one = read(r#"[{"inputs": {"a": {"x": 1, "y": [2]}, "b": "c"}}]"#);
        let other =
            read(r#"[{"inputs": {"b": "c", "a": {"y": [2], "x": 1}}, "tags": {"t": "u"}}]"#);
        assert_eq!(one, other);
        assert_ne!(
            one,
            read(r#"[{"inputs": {"a": {"x": 1, "y": [3]}, "b": "c"}}]"#)
        );
    }

    #[test]
    fn the_schema_keeps_the_first_type_of_each_field() {
        let schema =
            |old: Option<&str>, text: &str| add_to_schema(old, &read_records(text).unwrap());
        let first = schema(
            None,
            r#"[{"inputs": {"q": "x", "n": 1, "f": 1.5}, "outputs": "text"}]"#,
        );
        let second = schema(
            Some(&first),
            r#"[{"inputs": {"q": 1, "l": []}, "outputs": {"a": 1}, "expectations": {"e": true}}]"#,
        );
        let read: Value = serde_json::from_str(&second).unwrap();
        assert_eq!(
            read,
            json!({"inputs": {"q": "string", "n": "integer", "f": "float", "l": "array"},
                   "outputs": "string", "expectations": {"e": "boolean"}, "version": "1.0"})
        );
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_place() {
        for (text, part) in [
            ("{}", "array"),
            (r#"[{"inputs": 1}]"#, "records[0].inputs"),
            (r#"[{}, {"tags": []}]"#, "records[1].tags"),
            (r#"[{"source": {"source_type": "x"}}]"#, "source type"),
        ] {
            let error = read_records(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
