//! The rows of a span of times, all or the newest of each key, as a table: what SDKs before 0.66
//! read to materialize by themselves.

use std::collections::HashMap;

use arrow_array::{Array as _, RecordBatch, UInt32Array};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use super::materialize::Span;
use super::newest::{key_column, times};
use super::row::Stamp;
use super::value;
use crate::FeatureStore;
use crate::error::Error;
use crate::historical::{Only, Scan, Times};
use crate::table::{self, TableRef};

/// What is read of a table.
#[derive(Debug, Clone)]
pub(crate) struct LatestRequest {
    pub(crate) table: TableRef,
    pub(crate) keys: Vec<String>,
    pub(crate) features: Vec<String>,
    pub(crate) timestamp: String,
    pub(crate) created: Option<String>,
    pub(crate) span: Span,
    /// Whether older rows of a key are wanted too.
    pub(crate) all: bool,
}

/// The newest rows so far: of each key the batch and the row in it.
#[derive(Default)]
struct Latest {
    newest: HashMap<Box<[u8]>, (Stamp, usize, usize), ahash::RandomState>,
    kept: Vec<RecordBatch>,
}

impl FeatureStore {
    /// The newest row of each key, or all of them: keys, features, and times, by the names of the
    /// table's columns.
    ///
    /// # Errors
    /// When the table lacks a column, or cannot be read.
    pub(crate) async fn latest(&self, request: LatestRequest) -> Result<RecordBatch, Error> {
        let name = &request.table;
        let table = self.catalogs.table(name).await?;
        let there = table::columns(&table);
        let mut wanted: Vec<String> = request.keys.clone();
        let others = request.features.iter().chain([&request.timestamp]);
        for column in others.chain(&request.created) {
            if !wanted.contains(column) {
                wanted.push(column.clone());
            }
        }
        if let Some(column) = wanted.iter().find(|w| there.iter().all(|c| c.name != **w)) {
            return Err(Error::UnknownColumn {
                table: Box::new(name.clone()),
                column: column.clone(),
                role: "a column of the view",
                columns: there.into_iter().map(|c| c.name).collect(),
            });
        }
        for column in [Some(&request.timestamp), request.created.as_ref()] {
            let found = there.iter().find(|c| Some(&c.name) == column);
            if found.is_some_and(|column| !column.is_timestamp()) {
                return Err(Error::Invalid(format!(
                    "column {:?} of {name} is no time",
                    column.cloned().unwrap_or_default()
                )));
            }
        }
        let (span, all) = (request.span, request.all);
        let within = Times {
            column: &request.timestamp,
            first: span.start_us.unwrap_or(i64::MIN),
            last: span.end_us,
        };
        let scan = Scan::plan(name, &table, &wanted, Some(&within), Only::default()).await?;
        let each = move |latest: &mut Latest, batch, _| latest.take(&request, &batch);
        let parts = scan.in_parallel(Latest::default, each).await?;
        let fields = wanted
            .iter()
            .filter_map(|name| there.iter().find(|c| c.name == *name));
        let fields = fields.map(|column| {
            let kind = column.arrow_type()?;
            Ok(arrow_schema::Field::new(&column.name, kind, true))
        });
        let schema = Schema::new(fields.collect::<Result<Vec<_>, Error>>()?);
        if all {
            let batches: Vec<RecordBatch> = parts.into_iter().flat_map(|p| p.kept).collect();
            let empty = RecordBatch::new_empty(schema.into());
            let schema = batches.first().unwrap_or(&empty).schema();
            return in_order(&concat_batches(&schema, &batches)?, &wanted);
        }
        rows(parts, &wanted, schema)
    }
}

impl Latest {
    fn take(&mut self, request: &LatestRequest, batch: &RecordBatch) -> Result<(), Error> {
        let keys = request.keys.iter().map(|name| key_column(batch, name));
        let keys = keys.collect::<Result<Vec<_>, Error>>()?;
        let encoders = keys.iter().map(value::encoder);
        let encoders = encoders.collect::<Result<Vec<_>, _>>()?;
        let us = times(batch, &request.timestamp)?;
        let created = request.created.as_ref();
        let created = created.map(|name| times(batch, name)).transpose()?;
        let number = self.kept.len();
        let mut rows: Vec<u32> = Vec::new();
        let mut key = Vec::new();
        for row in 0..batch.num_rows() {
            if us.is_null(row) || keys.iter().any(|column| column.is_null(row)) {
                continue;
            }
            let created = created.as_ref().filter(|created| created.is_valid(row));
            let stamp = Stamp {
                us: us.value(row),
                created: created.map(|created| created.value(row)),
            };
            if request.all {
                rows.push(row as u32);
                continue;
            }
            key.clear();
            encoders.iter().for_each(|encode| encode(row, &mut key));
            let there = self.newest.get_mut(&*key);
            if there.as_ref().is_some_and(|there| there.0 >= stamp) {
                continue;
            }
            let place = (stamp, number, rows.len());
            match there {
                Some(there) => *there = place,
                None => {
                    self.newest.insert(key.as_slice().into(), place);
                }
            }
            rows.push(row as u32);
        }
        self.kept
            .push(take_record_batch(batch, &UInt32Array::from(rows))?);
        Ok(())
    }
}

fn rows(parts: Vec<Latest>, wanted: &[String], schema: Schema) -> Result<RecordBatch, Error> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut newest = HashMap::with_hasher(ahash::RandomState::new());
    for part in parts {
        let offset = batches.len();
        batches.extend(part.kept);
        for (key, (stamp, batch, row)) in part.newest {
            let place = (stamp, batch + offset, row);
            let there = newest.entry(key).or_insert(place);
            if place.0 > there.0 {
                *there = place;
            }
        }
    }
    if batches.is_empty() {
        return Ok(RecordBatch::new_empty(schema.into()));
    }
    let places: Vec<(usize, usize)> = newest.into_values().map(|(_, b, r)| (b, r)).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    in_order(&interleave_record_batch(&batches, &places)?, wanted)
}

fn in_order(rows: &RecordBatch, wanted: &[String]) -> Result<RecordBatch, Error> {
    let columns = wanted.iter().map(|name| rows.schema().index_of(name));
    Ok(rows.project(&columns.collect::<Result<Vec<_>, _>>()?)?)
}
