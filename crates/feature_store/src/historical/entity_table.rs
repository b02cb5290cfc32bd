//! Entity rows out of an Iceberg table: labels that are too many to send along.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use arrow_select::concat::concat_batches;
use serde_json::{Value, json};

use super::EntityRows;
use super::scan::{Only, Scan};
use crate::FeatureStore;
use crate::error::Error;
use crate::table::{self, Column, TableRef};

/// The most entity rows that one read takes: they and their features stand in memory.
pub(super) const MOST_ROWS: usize = 20_000_000;

/// A table whose rows features are joined to.
#[derive(Debug, Clone)]
pub struct EntityTable {
    pub table: TableRef,
    /// Empty: all.
    pub columns: Vec<String>,
    /// Absent: the newest.
    pub snapshot: Option<i64>,
}

impl EntityTable {
    /// The columns that are read, with their types.
    ///
    /// # Errors
    /// When one is not among those of the table.
    pub(crate) fn check(&self, there: &[Column]) -> Result<Vec<Field>, Error> {
        let all: Vec<String> = there.iter().map(|c| c.name.clone()).collect();
        let wanted = if self.columns.is_empty() {
            &all
        } else {
            &self.columns
        };
        let fields = wanted.iter().map(|name| {
            let column = there.iter().find(|c| c.name == *name);
            let column = column.ok_or_else(|| Error::UnknownColumn {
                table: Box::new(self.table.clone()),
                column: name.clone(),
                role: "a column of the entity rows",
                columns: all.clone(),
            })?;
            Ok(Field::new(name, column.arrow_type()?, true))
        });
        fields.collect()
    }

    /// As `POST /feast/historical` reads it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "catalog": self.table.catalog,
            "schema": self.table.schema,
            "table_name": self.table.name,
            "columns": self.columns,
            "snapshot_id": self.snapshot,
        })
    }
}

impl FeatureStore {
    /// Reads the rows of a table, in the order of its files.
    ///
    /// # Errors
    /// When the table or a column is not there, no column is a time, or there are too many rows.
    pub(crate) async fn entity_rows(&self, wanted: &EntityTable) -> Result<EntityRows, Error> {
        let table = self.catalogs.table(&wanted.table).await?;
        let fields = wanted.check(&table::columns(&table))?;
        let columns: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        let only = Only {
            snapshot: wanted.snapshot,
            files: None,
        };
        let scan = Scan::plan(&wanted.table, &table, &columns, None, only).await?;
        let room = Room::new(MOST_ROWS);
        let each = move |kept: &mut Vec<(u32, RecordBatch)>, batch: RecordBatch, piece| {
            room.take(batch.num_rows())?;
            kept.push((piece, batch));
            Ok(())
        };
        let kept = scan.in_parallel(Vec::new, each).await?;
        let mut batches: Vec<_> = kept.into_iter().flatten().collect();
        batches.sort_by_key(|(piece, _)| *piece);
        let batches = batches.iter().map(|(_, batch)| {
            let columns = columns.iter().map(|name| {
                let column = batch.column_by_name(name).cloned();
                column.ok_or_else(|| arrow_schema::ArrowError::SchemaError(name.clone()))
            });
            RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
        });
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        EntityRows::new(concat_batches(&schema, &batches)?)
    }
}

/// How many rows all workers together may still read.
struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl Room {
    fn new(most: usize) -> Self {
        Self {
            most,
            taken: AtomicUsize::new(0),
        }
    }

    fn take(&self, rows: usize) -> Result<(), Error> {
        if self.taken.fetch_add(rows, Ordering::Relaxed) + rows <= self.most {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "there are more than {} entity rows; read them in parts",
            self.most
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::Room;

    #[test]
    fn all_workers_together_read_no_more_than_the_most() {
        let room = Room::new(10);
        std::thread::scope(|scope| {
            let readers = [(); 5].map(|()| scope.spawn(|| room.take(2).is_ok()));
            assert!(
                readers
                    .map(|reader| reader.join().unwrap())
                    .iter()
                    .all(|ok| *ok)
            );
        });
        assert!(
            room.take(1)
                .unwrap_err()
                .to_string()
                .contains("more than 10")
        );
    }
}
