//! Reading a view's table: which files, which columns, in how many streams.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::Runtime;
use iceberg::arrow::ArrowReader;
use iceberg::expr::Reference;
use iceberg::scan::FileScanTask;
use iceberg::spec::{Datum, PrimitiveType, TableMetadata, Type};
use iceberg::table::Table;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cores::{self, processors};
use crate::error::Error;
use crate::memory::Freed;
use crate::table::TableRef;

/// Larger files are read in pieces of about this many bytes, each with its own row groups.
const PIECE_BYTES: u64 = 32 * 1024 * 1024;

/// Rows in a batch.
const BATCH_ROWS: usize = 16_384;

/// What is read of a table.
pub(crate) struct Scan {
    reader: ArrowReader,
    /// In the order of their names and places, which is the same for the same snapshot.
    pieces: Arc<Vec<FileScanTask>>,
    pub(crate) snapshot_id: Option<i64>,
    /// How many rows the files have in all, those that are not wanted too.
    pub(crate) rows: usize,
    name: TableRef,
    /// How many pieces are read at once: each keeps a core busy, and a row group in memory.
    readers: Arc<Semaphore>,
    /// What was read so far, by other scans of the same request too.
    freed: Arc<Freed>,
}

/// As many readers as there are processors.
pub(crate) fn readers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(processors()))
}

/// What a read is limited to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Only<'f> {
    /// Absent: the newest snapshot.
    pub(crate) snapshot: Option<i64>,
    /// Absent: all data files.
    pub(crate) files: Option<&'f HashSet<String>>,
}

/// The times that a read needs of a column, in microseconds, both inclusive.
pub(crate) struct Times<'t> {
    pub(crate) column: &'t str,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Scan {
    /// Plans a read of some columns, of the newest snapshot or of the one given.
    ///
    /// # Errors
    /// When the snapshot is not there, the storage does not answer, or rows were deleted in a
    /// way that cannot be read yet.
    pub(crate) async fn plan(
        name: &TableRef,
        table: &Table,
        columns: &[String],
        times: Option<&Times<'_>>,
        only: Only<'_>,
    ) -> Result<Self, Error> {
        let failed = || format!("table {name} cannot be read");
        let present;
        let mut table = table;
        if let Some(id) = only.snapshot {
            check_snapshot(name, table, id)?;
            present = with_present_columns(table, id).map_err(Error::iceberg(failed()))?;
            table = &present;
        }
        let mut scan = table.scan().select(columns);
        if let Some(id) = only.snapshot {
            scan = scan.snapshot_id(id);
        }
        if let Some(times) = times {
            let datum = datum(table, times.column);
            let mut filter = Reference::new(times.column).less_than_or_equal_to(datum(times.last));
            if times.first != i64::MIN {
                let from =
                    Reference::new(times.column).greater_than_or_equal_to(datum(times.first));
                filter = filter.and(from);
            }
            scan = scan.with_filter(filter);
        }
        let scan = scan.build().map_err(Error::iceberg(failed()))?;
        let snapshot_id = scan.snapshot().map(|snapshot| snapshot.snapshot_id());
        let tasks = scan.plan_files().await.map_err(Error::iceberg(failed()))?;
        let tasks: Vec<FileScanTask> = tasks
            .try_collect()
            .await
            .map_err(Error::iceberg(failed()))?;
        let vectors = |task: &FileScanTask| {
            task.deletes
                .iter()
                .any(|delete| delete.file_path.ends_with(".puffin"))
        };
        if tasks.iter().any(vectors) {
            return Err(Error::Unsupported(format!(
                "table {name} has deletion vectors (Iceberg v3), which cannot be read yet; compact the table, or write deletes as position delete files (format version 2)"
            )));
        }
        let wanted = |task: &FileScanTask| {
            only.files
                .is_none_or(|files| files.contains(&task.data_file_path))
        };
        let tasks: Vec<FileScanTask> = tasks.into_iter().filter(wanted).collect();
        let rows: u64 = tasks.iter().filter_map(|task| task.record_count).sum();
        let mut pieces: Vec<FileScanTask> = tasks.into_iter().flat_map(split).collect();
        pieces.sort_by(|a, b| (&a.data_file_path, a.start).cmp(&(&b.data_file_path, b.start)));
        Ok(Self {
            // One file at a time, so that batches come in the file's order.
            reader: table
                .reader_builder()
                .with_batch_size(BATCH_ROWS)
                .with_data_file_concurrency_limit(1)
                .build(),
            pieces: Arc::new(pieces),
            snapshot_id,
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            name: name.clone(),
            readers: readers(),
            freed: Arc::default(),
        })
    }

    /// About how many bytes a reader keeps of the file that it reads: the columns of a row group, as
    /// they stand in the file and unpacked.
    pub(crate) fn bytes_at_once(&self) -> usize {
        let sizes = self.pieces.iter().map(|piece| piece.file_size_in_bytes);
        let largest = sizes.max().unwrap_or_default().min(PIECE_BYTES);
        usize::try_from(2 * largest).unwrap_or(usize::MAX)
    }

    /// Reads with these readers, which other scans use too, and leaves it to who has `freed` to the
    /// end to give memory back.
    pub(crate) fn with_readers(mut self, readers: Arc<Semaphore>, freed: Arc<Freed>) -> Self {
        self.readers = readers;
        self.freed = freed;
        self
    }

    /// Reads all pieces, as many at once as there are processors: each worker begins with what
    /// `new` makes and hands every batch, with the number of its piece, to `each`. Gives what the
    /// workers have at the end.
    ///
    /// # Errors
    /// When a file cannot be read, or `each` refuses.
    pub(crate) async fn in_parallel<S: Send + 'static>(
        self,
        new: impl Fn() -> S + Send + Sync + 'static,
        each: impl Fn(&mut S, RecordBatch, u32) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<Vec<S>, Error> {
        let workers = processors().min(self.pieces.len());
        let (scan, new, each) = (Arc::new(self), Arc::new(new), Arc::new(each));
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks: JoinSet<Result<Option<S>, Error>> = JoinSet::new();
        for _ in 0..workers {
            let (scan, next) = (scan.clone(), next.clone());
            let (new, each) = (new.clone(), each.clone());
            tasks.spawn(async move {
                // Not before it has something to read: another scan may have all readers.
                let mut state = None;
                loop {
                    let done = next.fetch_add(1, Ordering::Relaxed);
                    // From the last one: most files grow with time, and of rows that come newest
                    // first those after them need not be kept.
                    let Some(piece) = scan.pieces.len().checked_sub(done + 1) else {
                        return Ok(state);
                    };
                    let _reader = scan.readers.acquire().await;
                    let state = state.get_or_insert_with(&*new);
                    let take = |batch| each(state, batch, piece as u32);
                    scan.read(piece, take).await?;
                }
            });
        }
        let mut states = Vec::with_capacity(workers);
        while let Some(ended) = tasks.join_next().await {
            states.extend(cores::ended(ended)??);
        }
        Ok(states)
    }

    /// All batches, one piece after the other: what is not asked for is not read.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<RecordBatch, Error>> {
        let scan = Arc::new(self);
        let pieces = stream::iter(0..scan.pieces.len());
        let batches = pieces.map(move |piece| scan.batches(piece));
        batches.try_flatten().boxed()
    }

    /// Hands every batch of one piece to `each`.
    async fn read(
        &self,
        piece: usize,
        mut each: impl FnMut(RecordBatch) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let mut batches = self.batches(piece)?;
        while let Some(batch) = batches.next().await {
            each(batch?)?;
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    fn batches(
        &self,
        piece: usize,
    ) -> Result<BoxStream<'static, Result<RecordBatch, Error>>, Error> {
        let failed = format!("a data file of table {} cannot be read", self.name);
        let task = self.pieces[piece].clone();
        let reader = self.reader.clone();
        let batches = reader
            .read(stream::iter([Ok(task)]).boxed())
            .map_err(Error::iceberg(failed.clone()))?;
        let freed = self.freed.clone();
        let batches = batches
            .stream()
            .inspect_ok(move |batch| freed.add(batch.get_array_memory_size()));
        Ok(batches
            .map(move |batch| batch.map_err(Error::iceberg(failed.clone())))
            .boxed())
    }
}

/// Refuses a snapshot that the table does not have, or does not have any more.
fn check_snapshot(name: &TableRef, table: &Table, id: i64) -> Result<(), Error> {
    let metadata = table.metadata();
    if metadata.snapshot_by_id(id).is_some() {
        return Ok(());
    }
    let newest = metadata.current_snapshot_id();
    let newest = newest.map_or("none".to_owned(), |id| id.to_string());
    Err(Error::Invalid(format!(
        "table {name} has no snapshot {id}; its newest is {newest}"
    )))
}

/// The table with a snapshot that is read by the columns of today, as views name them: a column that
/// was renamed or widened since is the same one by its id, and one that came later is null. The
/// library reads a snapshot by the columns that it was written with.
fn with_present_columns(table: &Table, snapshot: i64) -> Result<Table, iceberg::Error> {
    let metadata = table.metadata();
    let written = metadata.snapshot_by_id(snapshot);
    let written = written.and_then(|snapshot| snapshot.schema_id());
    if written.is_none_or(|id| id == metadata.current_schema_id()) {
        return Ok(table.clone());
    }
    let mut changed = serde_json::to_value(metadata)?;
    let snapshots = changed["snapshots"].as_array_mut();
    for known in snapshots.into_iter().flatten() {
        if let Some(known) = known.as_object_mut()
            && known["snapshot-id"] == snapshot
        {
            known.insert("schema-id".to_owned(), metadata.current_schema_id().into());
        }
    }
    let changed: TableMetadata = serde_json::from_value(changed)?;
    let rebuilt = Table::builder()
        .file_io(table.file_io().clone())
        .identifier(table.identifier().clone())
        .metadata(changed)
        .runtime(Runtime::current());
    match table.metadata_location() {
        Some(location) => rebuilt.metadata_location(location).build(),
        None => rebuilt.build(),
    }
}

/// A file in pieces; a row group belongs to the piece that its middle is in.
fn split(task: FileScanTask) -> Vec<FileScanTask> {
    let whole = task.start == 0 && (task.length == 0 || task.length >= task.file_size_in_bytes);
    let bytes = task.file_size_in_bytes;
    if !whole || bytes <= PIECE_BYTES {
        return vec![task];
    }
    let starts = (0..bytes.div_ceil(PIECE_BYTES)).map(|n| n * PIECE_BYTES);
    let piece = |start: u64| {
        let mut piece = task.clone();
        piece.start = start;
        piece.length = PIECE_BYTES.min(bytes - start);
        piece.record_count = None;
        piece
    };
    starts.map(piece).collect()
}

/// How a time is written for a column with or without a zone.
fn datum(table: &Table, column: &str) -> fn(i64) -> Datum {
    let field = table.metadata().current_schema().field_by_name(column);
    match field.map(|f| &*f.field_type) {
        Some(Type::Primitive(PrimitiveType::Timestamptz)) => Datum::timestamptz_micros,
        _ => Datum::timestamp_micros,
    }
}
