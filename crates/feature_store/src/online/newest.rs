//! The newest row of each entity of a table, as rows of the online store.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array as _, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::DataType;

use super::row::{Row, Stamp};
use super::value::{self, Encoder};
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::historical::{Columns, Scan};

pub(super) type Rows = HashMap<Box<[u8]>, Row, ahash::RandomState>;

/// The newest row of each entity, so far.
pub(super) struct Newest {
    pub(super) rows: Rows,
    pub(super) rows_read: u64,
    /// The earliest time of a row.
    pub(super) first_us: i64,
    /// Whether there were rows of a later time than was asked for.
    pub(super) left_later_rows: bool,
}

impl Default for Newest {
    fn default() -> Self {
        Self {
            rows: Rows::default(),
            rows_read: 0,
            first_us: i64::MAX,
            left_later_rows: false,
        }
    }
}

/// What makes rows of the online store of a table's.
pub(super) struct Job {
    columns: Columns,
    /// The types that features are kept in; absent: as their column is.
    kinds: Vec<Option<DataType>>,
    view: String,
    layout: u32,
    end_us: i64,
}

impl Job {
    pub(super) fn new(view: &FeatureView, columns: Columns, layout: u32, end_us: i64) -> Self {
        Self {
            columns,
            kinds: view.features.iter().map(|f| f.dtype.arrow_type()).collect(),
            view: view.name.clone(),
            layout,
            end_us,
        }
    }

    fn take(&self, newest: &mut Newest, batch: &RecordBatch) -> Result<(), Error> {
        let columns = &self.columns;
        let keys = columns.keys.iter().map(|name| key_column(batch, name));
        let keys = keys.collect::<Result<Vec<_>, Error>>()?;
        let us = times(batch, &columns.timestamp)?;
        let created = columns.created.as_ref();
        let created = created.map(|name| times(batch, name)).transpose()?;
        let features = self.features(batch)?;
        newest.rows_read += batch.num_rows() as u64;
        let key_encoders = keys.iter().map(value::encoder);
        let key_encoders = key_encoders.collect::<Result<Vec<_>, _>>()?;
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            if !us.is_valid(row) || keys.iter().any(|column| column.is_null(row)) {
                continue;
            }
            let created = created.as_ref().filter(|created| created.is_valid(row));
            let stamp = Stamp {
                us: us.value(row),
                created: created.map(|created| created.value(row)),
            };
            newest.first_us = newest.first_us.min(stamp.us);
            if stamp.us > self.end_us {
                newest.left_later_rows = true;
                continue;
            }
            key.clear();
            key_encoders.iter().for_each(|encode| encode(row, &mut key));
            let new_row = || {
                Row::new(stamp, self.layout, |bytes| {
                    features.iter().for_each(|encode| encode(row, bytes));
                })
            };
            match newest.rows.get_mut(&*key) {
                Some(there) if there.stamp() >= stamp => {}
                Some(there) => *there = new_row(),
                None => {
                    newest.rows.insert(key.as_slice().into(), new_row());
                }
            }
        }
        Ok(())
    }

    fn features(&self, batch: &RecordBatch) -> Result<Vec<Encoder>, Error> {
        let columns = self.columns.features.iter().zip(&self.kinds);
        let encoders = columns.map(|(name, kind)| {
            let given = column(batch, name)?;
            let Some(kind) = kind.as_ref().filter(|kind| *kind != given.data_type()) else {
                return value::encoder(&given);
            };
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let cast = cast_with_options(&given, kind, &options);
            value::encoder(&cast.map_err(Error::value(format!(
                "column {name:?} of feature view '{}' holds a value that the feature's declared type cannot",
                self.view
            )))?)
        });
        encoders.collect()
    }
}

fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, Error> {
    let found = batch.column_by_name(name).cloned();
    Ok(found.ok_or_else(|| {
        arrow_schema::ArrowError::SchemaError(format!("the scan gave no column {name:?}"))
    })?)
}

pub(super) fn times(batch: &RecordBatch, name: &str) -> Result<TimestampMicrosecondArray, Error> {
    let column = column(batch, name)?;
    Ok(column.as_primitive::<TimestampMicrosecondType>().clone())
}

/// A key column in the type that keys of online reads are made of.
pub(super) fn key_column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, Error> {
    let column = column(batch, name)?;
    let kind = match column.data_type() {
        kind if kind.is_integer() => DataType::Int64,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date32 => DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None),
        _ => return Ok(column),
    };
    Ok(cast(&column, &kind)?)
}

/// Reads a table for the newest row of each entity.
///
/// # Errors
/// When the table cannot be read, or a value does not fit its feature's type.
pub(super) async fn newest(scan: Scan, job: Arc<Job>) -> Result<Newest, Error> {
    let parts = scan
        .in_parallel(Newest::default, move |newest, batch, _| {
            job.take(newest, &batch)
        })
        .await?;
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        all.rows_read += part.rows_read;
        all.first_us = all.first_us.min(part.first_us);
        all.left_later_rows |= part.left_later_rows;
        for (key, row) in part.rows {
            match all.rows.get_mut(&*key) {
                Some(there) if there.stamp() >= row.stamp() => {}
                Some(there) => *there = row,
                None => {
                    all.rows.insert(key, row);
                }
            }
        }
    }
    Ok(all)
}
