//! The rows that features are joined to, and what they are called in the request of a read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::plan::refused;
use super::request::TrainingRequest;
use crate::FeatureStore;
use crate::definition::timestamp_of;
use crate::error::Error;
use crate::historical::{EntityRows, EntityTable, ViewUse};
use crate::json;
use crate::table::{self, TableRef};

/// The most that entity rows in a script may take: more belongs into a table.
const MOST_INLINE_BYTES: usize = 1 << 20;

/// The name of the time of inline entity rows.
const EVENT_TIMESTAMP: &str = "event_timestamp";

/// The rows that features are joined to.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// `{"column": [values]}` or `[{"column": value}]`.
    Inline(Value),
    Table {
        table: TableRef,
        timestamp_field: Option<String>,
        snapshot: Option<i64>,
    },
    /// Every row of the first view's own table.
    OfFirstView,
}

pub(super) struct RowsOf {
    pub(super) field: &'static str,
    pub(super) value: Value,
    pub(super) columns: Vec<String>,
    pub(super) time: String,
    pub(super) snapshot: Option<i64>,
}

impl Rows {
    /// Whether a column of the rows may be the target; a view's own table only says which
    /// entities there were when.
    fn may_have_target(&self) -> bool {
        !matches!(self, Self::OfFirstView)
    }
}

impl FeatureStore {
    /// The rows that features are joined to, and what they are called in the request of a read.
    pub(super) async fn rows_of(
        &self,
        request: &TrainingRequest,
        views: &[ViewUse],
    ) -> Result<RowsOf, Error> {
        let keys: BTreeSet<&String> = views.iter().flat_map(|v| &v.view.join_keys).collect();
        let target = &request.target;
        let (table, time, snapshot) = match &request.rows {
            Rows::Inline(value) => return inline(value.clone(), &keys, target),
            Rows::Table {
                table,
                timestamp_field,
                snapshot,
            } => (table.clone(), timestamp_field.clone(), *snapshot),
            Rows::OfFirstView => own_table(views)?,
        };
        let opened = self.catalogs.table(&table).await?;
        let there = table::columns(&opened);
        let time = timestamp_of(&there, &table, time.as_deref())?;
        let mut columns: Vec<String> = Vec::new();
        let has_target = request.rows.may_have_target() && there.iter().any(|c| c.name == *target);
        let asked = keys.iter().copied().chain([&time]);
        for column in asked.chain(has_target.then_some(target)) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        let wanted = EntityTable {
            table,
            columns: columns.clone(),
            snapshot: snapshot.or(opened.metadata().current_snapshot_id()),
        };
        wanted.check(&there)?;
        Ok(RowsOf {
            field: "entity_table",
            snapshot: wanted.snapshot,
            value: wanted.to_json(),
            columns,
            time,
        })
    }
}

fn inline(value: Value, keys: &BTreeSet<&String>, target: &str) -> Result<RowsOf, Error> {
    let batch = json::to_batch(value)?;
    let schema = batch.schema();
    let there: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let needed = keys.iter().map(|key| key.as_str()).chain([EVENT_TIMESTAMP]);
    for name in needed.clone() {
        if !there.contains(&name) {
            return Err(refused(
                "data_source",
                format!(
                    "entities has no column {name:?}, which the feature views need; its columns are: {}",
                    there.join(", ")
                ),
            ));
        }
    }
    let columns: Vec<String> = needed
        .chain(there.contains(&target).then_some(target))
        .map(str::to_owned)
        .collect();
    let kept = columns.iter().map(|name| schema.index_of(name));
    let kept = batch.project(&kept.collect::<Result<Vec<_>, _>>()?)?;
    let rows = EntityRows::new(kept)?;
    let value = Value::Object(json::from_batch(&rows.batch)?);
    if value.to_string().len() > MOST_INLINE_BYTES {
        return Err(refused(
            "data_source",
            format!(
                "entities is larger than {MOST_INLINE_BYTES} bytes: import the rows as a table (POST /feast/tables/SCHEMA/NAME) and name it in label_table"
            ),
        ));
    }
    Ok(RowsOf {
        field: "entities",
        value,
        columns,
        time: EVENT_TIMESTAMP.to_owned(),
        snapshot: None,
    })
}

type TableRows = (TableRef, Option<String>, Option<i64>);

/// The table of the first view, when its keys are called there as in the views.
fn own_table(views: &[ViewUse]) -> Result<TableRows, Error> {
    let Some(first) = views.first() else {
        return Err(refused(
            "data_source",
            "feature_views is empty; name at least one".to_owned(),
        ));
    };
    let view = &first.view;
    if view
        .join_keys
        .iter()
        .any(|key| view.source.column_of(key) != *key)
    {
        return Err(refused(
            "data_source",
            format!(
                "give entities or label_table: the keys of feature view '{}' have other names in its table",
                view.name
            ),
        ));
    }
    let time = view.source.timestamp_column.clone();
    Ok((view.table()?.clone(), Some(time), None))
}
