//! The read itself: each view's table once, its newest values beside the entity rows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::table::Table;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::as_of::{AsOf, Rows};
use super::columns::Columns;
use super::entities::Moments;
use super::keys::Keys;
use super::request::{HistoricalRequest, ViewUse};
use super::scan::{self, Only, Scan, Times};
use super::slots::Slots;
use super::widths;
use super::window::Window;
use crate::FeatureStore;
use crate::answers::Held;
use crate::cores;
use crate::error::Error;
use crate::memory::Freed;
use crate::on_demand::ViewColumns;
use crate::table::{self, TableRef};

/// The answer of a read.
#[derive(Debug, Clone)]
pub struct Historical {
    /// The columns of the entity rows, then the features in the order of the request.
    pub rows: RecordBatch,
    /// The snapshot that each view was read at: with it the same read gives the same answer.
    pub snapshots: Vec<(String, TableRef, Option<i64>)>,
    /// Project and name of each view that was read.
    pub views: Vec<(String, String)>,
    /// The memory of the rows, for as long as they are kept; none when they are not here.
    pub(crate) held: Option<Arc<Held>>,
}

impl FeatureStore {
    /// Joins features to entity rows as they were known at the rows' times.
    ///
    /// # Errors
    /// When a key is missing or cannot match, a table cannot be read, or two features would have
    /// the same name.
    pub async fn historical(&self, request: HistoricalRequest) -> Result<Historical, Error> {
        let started = Instant::now();
        let names = output_names(&request)?;
        let opened = self.open(&request).await?;
        let width = width(&opened);
        let held = self.answers.hold(request.bytes(width)).await?;
        let mut columns = request.entities.batch.columns().to_vec();
        let mut snapshots = Vec::new();
        let mut views = Vec::new();
        let mut sources = Vec::new();
        let shared = Shared::default();
        let reads = request.views.views.iter().zip(opened);
        let reads: Vec<_> = reads
            .map(|(used, opened)| read_view(used, opened, &request, &shared))
            .collect();
        let reads = stream::iter(reads).buffered(VIEWS_AT_ONCE);
        let found: Vec<_> = reads.try_collect().await?;
        for (used, (found, snapshot)) in request.views.views.iter().zip(found) {
            let named = used.features.iter().cloned().zip(found.iter().cloned());
            sources.push(named.collect::<ViewColumns>());
            columns.extend(found.into_iter().take(used.answered().len()));
            snapshots.push((used.alias.clone(), used.view.table()?.clone(), snapshot));
            views.push((used.view.project.clone(), used.view.name.clone()));
        }
        for used in &request.views.on_demand {
            let given = &request.entities.batch;
            let count = given.num_rows();
            let computed = used.compute(&self.transforms, given, count, &sources);
            columns.extend(computed.await?);
        }
        let fields: Vec<Field> = names
            .iter()
            .zip(&columns)
            .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
            .collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        held.fit(&rows);
        metrics::histogram!("feast_historical_retrieval_seconds")
            .record(started.elapsed().as_secs_f64());
        metrics::counter!("feast_historical_rows_total").increment(rows.num_rows() as u64);
        Ok(Historical {
            rows,
            snapshots,
            views,
            held: Some(held),
        })
    }

    /// What the features of a row take, in bytes.
    pub(super) async fn width(&self, request: &HistoricalRequest) -> Result<usize, Error> {
        Ok(width(&self.open(request).await?))
    }

    /// Finds the tables of the views.
    async fn open(&self, request: &HistoricalRequest) -> Result<Vec<Opened>, Error> {
        let views = request.views.views.iter();
        let opened: Vec<_> = views.map(|used| self.open_view(used)).collect();
        let opened = stream::iter(opened).buffered(OPENED_AT_ONCE);
        opened.try_collect().await
    }

    async fn open_view(&self, used: &ViewUse) -> Result<Opened, Error> {
        let name = used.view.table()?;
        let table = self.catalogs.table(name).await?;
        let columns = Columns::find(used, name, &table::columns(&table))?;
        let snapshot = used.snapshot.or(table.metadata().current_snapshot_id());
        let (schema, features) = (&columns.schema, &columns.features);
        let width = widths::of_row(name, &table, snapshot, schema, features).await?;
        Ok(Opened {
            table,
            columns,
            width,
        })
    }
}

async fn read_view(
    used: &ViewUse,
    opened: Opened,
    request: &HistoricalRequest,
    shared: &Shared,
) -> Result<(Vec<ArrayRef>, Option<i64>), Error> {
    let name = used.view.table()?;
    let Opened {
        table,
        columns,
        width,
    } = opened;
    let moments = &request.entities.moments;
    let keyed = shared.keyed(entity_keys(used, request)?, &columns.key_types, moments)?;
    let ttl_us = used.view.ttl_us;
    let times = keyed.slots.range(ttl_us).map(|(first, last)| Times {
        column: &columns.timestamp,
        first,
        last,
    });
    let only = Only {
        snapshot: used.snapshot,
        files: None,
    };
    let scan = Scan::plan(name, &table, &columns.all(), times.as_ref(), only).await?;
    let snapshot = scan.snapshot_id.filter(|_| !used.was_empty);
    let created = columns.created.is_some();
    let bytes = AsOf::bytes(&keyed.slots, moments.us.len(), width, created);
    let _room = shared.room(bytes).await;
    let schema = columns.schema.clone();
    let workers = cores::processors();
    let found = Arc::new(AsOf::new(keyed.slots, ttl_us, schema, workers));
    if times.is_some() && !used.was_empty {
        let (found, keys) = (found.clone(), keyed.keys);
        let each = move |window: &mut Window, batch, piece| {
            push(&found, &batch, &keys, &columns, piece, window)
        };
        let scan = scan.with_readers(shared.readers.clone(), shared.freed.clone());
        scan.in_parallel(Window::default, each).await?;
    }
    let found = Arc::into_inner(found).expect("the workers that shared it have ended");
    let found = found.finish(moments).await?;
    let found = found
        .into_iter()
        .zip(&used.features)
        .map(|(column, feature)| {
            let Some(target) = used.view.feature(feature)?.dtype.arrow_type() else {
                return Ok(column);
            };
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(&column, &target, &options).map_err(Error::value(format!(
                "feature {}:{feature} holds a value that its declared type cannot",
                used.alias
            )))
        });
    Ok((found.collect::<Result<_, _>>()?, snapshot))
}

/// A view's table, before it is read.
struct Opened {
    table: Table,
    columns: Columns,
    /// How many bytes the features of a row take; none when that cannot be told.
    width: Option<usize>,
}

impl Opened {
    /// What the features of a row are taken to need, where it must be told.
    fn width_at_least(&self) -> usize {
        let unknown = || self.columns.features.len() * widths::UNKNOWN_LIST_BYTES;
        self.width.unwrap_or_else(unknown)
    }
}

fn width(opened: &[Opened]) -> usize {
    let widths = opened.iter().map(Opened::width_at_least);
    widths.fold(0, usize::saturating_add)
}

/// How many views' tables are looked for at once.
const OPENED_AT_ONCE: usize = 4;

/// How many views are read at once: while what was found in one is put together, column by column,
/// the processors that have none of them read the next.
const VIEWS_AT_ONCE: usize = 2;

/// How many mebibytes the rows that are kept of these views may take: of larger ones, one is read at
/// a time.
const ROOM_MIB: usize = 256;

/// What the reads of a request's views share.
struct Shared {
    readers: Arc<Semaphore>,
    /// Given back when all is put together, or when nobody waits any more.
    freed: Arc<Freed>,
    /// In mebibytes.
    room: Semaphore,
    keyed: Mutex<Vec<(KeyColumns, Keyed)>>,
}

/// Which columns of the entity rows are the keys, and the types that the view's table has for them.
#[derive(PartialEq)]
struct KeyColumns {
    names: Vec<String>,
    types: Vec<DataType>,
}

/// The entity rows as the views about the same keys look for them.
#[derive(Clone)]
struct Keyed {
    keys: Arc<Keys>,
    slots: Arc<Slots>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            readers: scan::readers(),
            freed: Arc::default(),
            room: Semaphore::new(ROOM_MIB),
            keyed: Mutex::default(),
        }
    }
}

impl Shared {
    /// Waits until a view may keep so many bytes; one that needs more than there is has all of it.
    async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let mebibytes = (bytes / (1024 * 1024)).clamp(1, ROOM_MIB);
        self.room.acquire_many(mebibytes as u32).await.ok()
    }

    fn keyed(
        &self,
        columns: Vec<(String, ArrayRef)>,
        types: &[DataType],
        moments: &Moments,
    ) -> Result<Keyed, Error> {
        let about = KeyColumns {
            names: columns.iter().map(|(name, _)| name.clone()).collect(),
            types: types.to_vec(),
        };
        let mut all = self.keyed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keyed)) = all.iter().find(|(known, _)| *known == about) {
            return Ok(keyed.clone());
        }
        let (keys, numbers) = Keys::new(&columns, types, moments.us.len())?;
        let keyed = Keyed {
            keys: Arc::new(keys),
            slots: Arc::new(Slots::new(&numbers, moments)),
        };
        all.push((about, keyed.clone()));
        Ok(keyed)
    }
}

/// The columns of the entity rows that hold a view's keys.
fn entity_keys(
    used: &ViewUse,
    request: &HistoricalRequest,
) -> Result<Vec<(String, ArrayRef)>, Error> {
    let keys = used.view.join_keys.iter().map(|key| {
        let name = used.key_name(key);
        match request.entities.batch.column_by_name(name) {
            Some(column) => Ok((name.clone(), column.clone())),
            None => Err(Error::Invalid(format!(
                "the entity rows have no column {name:?}, the join key of feature view '{}'; their columns are: {}",
                used.view.name,
                request.entities.column_names().join(", ")
            ))),
        }
    });
    keys.collect()
}

/// The names of all columns of the answer. A feature that is called like a column of the entity
/// rows gets `__` behind it, as in Feast.
fn output_names(request: &HistoricalRequest) -> Result<Vec<String>, Error> {
    let mut names = request.entities.column_names();
    let entity_columns: HashSet<String> = names.iter().cloned().collect();
    let mut features: HashSet<String> = HashSet::new();
    let full = request.full_feature_names;
    let read = request.views.views.iter().flat_map(|used| {
        let answered = used.answered().iter();
        answered.map(move |feature| used.answer_name(feature, full))
    });
    let computed = request.views.on_demand.iter().flat_map(|used| {
        let features = used.features.iter();
        features.map(move |(feature, _)| used.answer_name(feature, full))
    });
    for name in read.chain(computed) {
        if !features.insert(name.clone()) {
            return Err(Error::same_name(&name));
        }
        names.push(if entity_columns.contains(&name) {
            format!("{name}__")
        } else {
            name
        });
    }
    Ok(names)
}

fn push(
    found: &AsOf,
    batch: &RecordBatch,
    keys: &Keys,
    columns: &Columns,
    file: u32,
    window: &mut Window,
) -> Result<(), Error> {
    let column = |name: &String| {
        batch
            .column_by_name(name)
            .cloned()
            .ok_or_else(|| ArrowError::SchemaError(format!("the scan gave no column {name:?}")))
    };
    let key_columns = columns
        .keys
        .iter()
        .map(column)
        .collect::<Result<Vec<_>, _>>()?;
    let us = column(&columns.timestamp)?;
    let us: &TimestampMicrosecondArray = us.as_primitive::<TimestampMicrosecondType>();
    let created = columns.created.as_ref().map(column).transpose()?;
    let created = created
        .as_ref()
        .map(|c| c.as_primitive::<TimestampMicrosecondType>());
    let features = columns
        .features
        .iter()
        .map(column)
        .collect::<Result<Vec<_>, _>>()?;
    let features = RecordBatch::try_new(columns.schema.clone(), features)?;
    let numbers = keys.find(&key_columns, batch.num_rows())?;
    let rows = Rows {
        numbers: &numbers,
        us,
        created,
        features,
        file,
    };
    found.push(&rows, window)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn views_that_keep_much_are_read_one_at_a_time() {
        let shared = Shared::default();
        let small = (shared.room(0).await, shared.room(1 << 20).await);
        assert!(small.0.is_some() && small.1.is_some());
        drop(small);
        let large = shared.room(usize::MAX).await;
        assert!(shared.room(0).now_or_never().is_none());
        drop(large);
        assert!(shared.room(usize::MAX).await.is_some());
    }
}
