//! The rows of a span of times, all or the newest of each key, as a table: what SDKs before 0.66
//! read to materialize by themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave;
use arrow_select::take::take_record_batch;

use super::materialize::Span;
use super::newest::{key_column, times};
use super::row::Stamp;
use super::value;
use crate::FeatureStore;
use crate::answers::Held;
use crate::error::Error;
use crate::historical::{Only, Scan, Times, UNKNOWN_LIST_BYTES, of_row};
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

/// After how many rows that newer ones have replaced the others are put together anew.
const REPLACED_ROWS: usize = 262_144;

/// The most bytes of rows that one call keeps.
const MOST_BYTES: usize = 1024 * 1024 * 1024;

/// Of which row the newest one of a key is: its time, its batch and its place there.
type Place = (Stamp, usize, usize);

/// What the entry of a key takes beside its bytes: the map is at most twice as large as it must be,
/// and the allocator keeps some words too.
const ENTRY_BYTES: usize = 2 * size_of::<(Box<[u8]>, Place)>() + 16;

/// The newest rows so far.
struct Latest {
    newest: HashMap<Box<[u8]>, Place, ahash::RandomState>,
    kept: Vec<RecordBatch>,
    rows: usize,
    /// Of the rows that are kept here.
    bytes: usize,
    /// Of the keys of them.
    key_bytes: usize,
    /// Of what all workers keep.
    all_bytes: Arc<AtomicUsize>,
    most_bytes: usize,
    replaced_rows: usize,
}

impl FeatureStore {
    /// The newest row of each key, or all of them: keys, features, and times, by the names of the
    /// table's columns; and the memory that is held for them.
    ///
    /// # Errors
    /// When the table lacks a column, or cannot be read, or there is no memory for now.
    pub(crate) async fn latest(
        &self,
        request: LatestRequest,
    ) -> Result<(RecordBatch, Arc<Held>), Error> {
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
        let fields = wanted
            .iter()
            .filter_map(|name| there.iter().find(|c| c.name == *name));
        let fields = fields.map(|column| {
            let kind = column.arrow_type()?;
            Ok(arrow_schema::Field::new(&column.name, kind, true))
        });
        let schema = Schema::new(fields.collect::<Result<Vec<_>, Error>>()?);
        let width = of_row(name, &table, scan.snapshot_id, &schema, &wanted).await?;
        let width = width.unwrap_or(wanted.len() * UNKNOWN_LIST_BYTES) + ENTRY_BYTES;
        // More than that is refused.
        let bytes = width.saturating_mul(scan.rows).min(MOST_BYTES);
        let held = self.answers.hold(bytes).await?;
        let each = move |latest: &mut Latest, batch, _| latest.take(&request, &batch);
        let all_bytes = Arc::new(AtomicUsize::new(0));
        let new = move || Latest::new(all_bytes.clone(), MOST_BYTES, REPLACED_ROWS);
        let parts = scan.in_parallel(new, each).await?;
        let rows = if all {
            let batches: Vec<RecordBatch> = parts.into_iter().flat_map(|p| p.kept).collect();
            let empty = RecordBatch::new_empty(schema.into());
            let schema = batches.first().unwrap_or(&empty).schema();
            in_order(&concat_batches(&schema, &batches)?, &wanted)?
        } else {
            rows(parts, &wanted, schema)?
        };
        held.fit(&rows);
        Ok((rows, held))
    }
}

impl Latest {
    fn new(all_bytes: Arc<AtomicUsize>, most_bytes: usize, replaced_rows: usize) -> Self {
        Self {
            newest: HashMap::default(),
            kept: Vec::new(),
            rows: 0,
            bytes: 0,
            key_bytes: 0,
            all_bytes,
            most_bytes,
            replaced_rows,
        }
    }

    /// Keeps rows of a batch, in bounded memory.
    fn keep(&mut self, rows: RecordBatch, all: bool) -> Result<(), Error> {
        self.rows += rows.num_rows();
        self.add_bytes(rows.get_array_memory_size());
        self.kept.push(rows);
        if !all && self.rows > 2 * self.newest.len() + self.replaced_rows {
            self.put_together()?;
        }
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.all_bytes.load(Ordering::Relaxed) > self.most_bytes {
            return Err(Error::Invalid(
                "the answer would hold more than 1 GiB of rows: ask for a shorter span of times, or have the server load the view (POST /feast/materialize-incremental, as SDKs since 0.66 do)"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_key(&mut self, key: &[u8], place: Place) {
        let bytes = key.len() + ENTRY_BYTES;
        self.key_bytes += bytes;
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.newest.insert(key.into(), place);
    }

    /// Drops the rows that newer ones have replaced.
    fn put_together(&mut self) -> Result<(), Error> {
        let places = self.newest.values().map(|(_, batch, row)| (*batch, *row));
        let places: Vec<(usize, usize)> = places.collect();
        let together = put_together(std::mem::take(&mut self.kept), &places)?;
        for (index, place) in self.newest.values_mut().enumerate() {
            (place.1, place.2) = (0, index);
        }
        self.rows = together.num_rows();
        let after = together.get_array_memory_size();
        let before = std::mem::replace(&mut self.bytes, after);
        self.kept = vec![together];
        // In one step, for other workers look at it: it wraps around where there are fewer.
        self.all_bytes
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        Ok(())
    }

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
            if us.is_null(row) {
                continue;
            }
            if request.all {
                rows.push(row as u32);
                continue;
            }
            if keys.iter().any(|column| column.is_null(row)) {
                continue;
            }
            let created = created.as_ref().filter(|created| created.is_valid(row));
            let stamp = Stamp {
                us: us.value(row),
                created: created.map(|created| created.value(row)),
            };
            key.clear();
            encoders.iter().for_each(|encode| encode(row, &mut key));
            let there = self.newest.get_mut(&*key);
            if there.as_ref().is_some_and(|there| there.0 >= stamp) {
                continue;
            }
            let place = (stamp, number, rows.len());
            match there {
                Some(there) => *there = place,
                None => self.add_key(&key, place),
            }
            rows.push(row as u32);
        }
        let rows = take_record_batch(batch, &UInt32Array::from(rows))?;
        self.keep(rows, request.all)
    }
}

/// The rows at these places of some batches. One column is there twice for a moment, and no more.
fn put_together(
    batches: Vec<RecordBatch>,
    places: &[(usize, usize)],
) -> Result<RecordBatch, Error> {
    let schema = batches[0].schema();
    let mut columns = vec![Vec::with_capacity(batches.len()); schema.fields().len()];
    for batch in batches {
        let (_, arrays, _) = batch.into_parts();
        let into = columns.iter_mut().zip(arrays);
        into.for_each(|(column, array)| column.push(array));
    }
    let columns = columns.into_iter().map(|column: Vec<ArrayRef>| {
        let arrays: Vec<&dyn Array> = column.iter().map(AsRef::as_ref).collect();
        interleave(&arrays, places)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
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
    in_order(&put_together(batches, &places)?, wanted)
}

fn in_order(rows: &RecordBatch, wanted: &[String]) -> Result<RecordBatch, Error> {
    let columns = wanted.iter().map(|name| rows.schema().index_of(name));
    Ok(rows.project(&columns.collect::<Result<Vec<_>, _>>()?)?)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn request() -> LatestRequest {
        LatestRequest {
            table: TableRef::parse_uri("iceberg://gold/t").unwrap(),
            keys: vec!["id".to_owned()],
            features: vec!["value".to_owned()],
            timestamp: "at".to_owned(),
            created: None,
            span: Span {
                start_us: None,
                end_us: i64::MAX,
            },
            all: false,
        }
    }

    /// A row of each of 1,000 keys.
    fn batch(round: i64) -> RecordBatch {
        let values = (0..1_000).map(|id| id * 1_000 + round);
        let times = TimestampMicrosecondArray::from(vec![round; 1_000]);
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(0..1_000))),
            ("value", Arc::new(Int64Array::from_iter_values(values))),
            ("at", Arc::new(times)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn what_is_put_together_is_never_counted_twice() {
        let all_bytes = Arc::new(AtomicUsize::new(0));
        let mut latest = Latest::new(all_bytes.clone(), MOST_BYTES, REPLACED_ROWS);
        latest.take(&request(), &batch(0)).unwrap();
        latest.put_together().unwrap();
        // The rows once, and not twice.
        let most = latest.key_bytes + latest.bytes * 3 / 2;
        let other = Latest::new(all_bytes, most, REPLACED_ROWS);
        std::thread::scope(|scope| {
            let putting = scope.spawn(move || {
                for _ in 0..5_000 {
                    latest.put_together().unwrap();
                }
            });
            while !putting.is_finished() {
                other.check().unwrap();
            }
        });
    }

    #[test]
    fn rows_that_were_replaced_take_no_memory() {
        let request = request();
        let mut latest = Latest::new(Arc::default(), 320_000, 1_000);
        for round in 0..200_i64 {
            latest.take(&request, &batch(round)).unwrap();
            assert!(latest.rows <= 4_000, "{}", latest.rows);
        }
        let counted = latest.bytes + latest.key_bytes;
        assert_eq!(counted, latest.all_bytes.load(Ordering::Relaxed));
        // Of each of the keys eight bytes and more, and its place among the rows.
        assert!(latest.key_bytes >= 1_000 * (8 + size_of::<(Box<[u8]>, Place)>()));
        let wanted = ["id", "value"].map(str::to_owned);
        let found = rows(vec![latest], &wanted, Schema::empty()).unwrap();
        assert_eq!(found.num_rows(), 1_000);
        let (ids, values) = (found.column(0), found.column(1));
        let ids = ids.as_primitive::<Int64Type>().values().iter();
        let values = values.as_primitive::<Int64Type>().values();
        assert!(
            ids.zip(values)
                .all(|(id, value)| *value == id * 1_000 + 199)
        );
    }
}
