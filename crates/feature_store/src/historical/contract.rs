//! The join against a reference that is slow and plain, on generated data with every trap in it.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;

use super::as_of::{AsOf, Rows};
use super::entities::EntityRows;
use super::keys::Keys;
use super::slots::Slots;
use super::window::Window;

#[derive(Debug, Clone)]
struct EntityRow {
    key: Option<i64>,
    /// Nanoseconds: fractions of a microsecond count.
    ns: Option<i64>,
}

#[derive(Debug, Clone)]
struct ViewRow {
    key: Option<i64>,
    us: Option<i64>,
    created: Option<i64>,
    value: Option<i64>,
    file: u32,
}

/// How many files a view has.
const FILES: usize = 3;

/// Few keys and times, so that ties, duplicates and exact ages happen all the time.
fn entity_row() -> impl Strategy<Value = EntityRow> {
    let ns = prop_oneof![
        8 => (-3i64..12).prop_map(|us| Some(us * 1000)),
        2 => (-3000i64..12000).prop_map(Some),
        1 => Just(None),
    ];
    (prop::option::weighted(0.9, 0i64..4), ns).prop_map(|(key, ns)| EntityRow { key, ns })
}

fn view_row() -> impl Strategy<Value = ViewRow> {
    (
        prop::option::weighted(0.9, 0i64..5),
        prop::option::weighted(0.9, -4i64..13),
        prop::option::weighted(0.7, 0i64..3),
        prop::option::weighted(0.7, any::<i64>()),
        0..FILES as u32,
    )
        .prop_map(|(key, us, created, value, file)| ViewRow {
            key,
            us,
            created,
            value,
            file,
        })
}

/// What the notes' table says, row by row.
fn expected(
    entities: &[EntityRow],
    view: &[ViewRow],
    ttl: Option<i64>,
    created: bool,
) -> Vec<Option<i64>> {
    let newest = |entity: &EntityRow| {
        let (key, ns) = (entity.key?, entity.ns?);
        let counts = |row: &&ViewRow| {
            let Some(us) = row.us else { return false };
            row.key == Some(key)
                && us * 1000 <= ns
                && ttl.is_none_or(|ttl| ns - us * 1000 <= ttl * 1000)
        };
        // Of rows that are the same in all, the first of the first file.
        let mut rows: Vec<&ViewRow> = view.iter().filter(counts).collect();
        let created = |row: &ViewRow| row.created.filter(|_| created);
        rows.sort_by_key(|row| (Reverse(row.us), Reverse(created(row)), row.file));
        rows.first()?.value
    };
    entities.iter().map(newest).collect()
}

/// What keys are like, so that each kind of `Keys` looks for them.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Whole numbers close together, and far from each other.
    Near,
    Far,
    Text,
}

impl Kind {
    fn column(self, keys: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        match self {
            Self::Near => Arc::new(keys.collect::<Int64Array>()),
            Self::Far => {
                let far = keys.map(|key| key.map(|key| key * 1_000_003));
                Arc::new(far.collect::<Int64Array>())
            }
            Self::Text => {
                let text = keys.map(|key| key.map(|key| format!("key {key}")));
                Arc::new(text.collect::<StringArray>())
            }
        }
    }
}

/// How the view is read.
#[derive(Debug, Clone)]
struct Reading {
    kind: Kind,
    /// Whether rows say when they were created.
    created: bool,
    shares: usize,
    batch_rows: usize,
    order: Order,
}

/// Who pushes the batches of the files, of which each keeps its order.
#[derive(Debug, Clone)]
enum Order {
    /// One worker: of the files that have more, the next that is named.
    Turns(Vec<usize>),
    /// A worker for each file, all at once.
    Workers,
}

fn reading() -> impl Strategy<Value = Reading> {
    let kind = prop_oneof![Just(Kind::Near), Just(Kind::Far), Just(Kind::Text)];
    let order = prop_oneof![
        3 => prop::collection::vec(0..FILES, 1..20).prop_map(Order::Turns),
        1 => Just(Order::Workers),
    ];
    (kind, any::<bool>(), 1usize..6, 1usize..20, order).prop_map(
        |(kind, created, shares, batch_rows, order)| Reading {
            kind,
            created,
            shares,
            batch_rows,
            order,
        },
    )
}

/// A batch of a file, as a worker has it.
struct Batch {
    numbers: Vec<u32>,
    us: TimestampMicrosecondArray,
    created: Option<TimestampMicrosecondArray>,
    features: RecordBatch,
    file: u32,
}

impl Batch {
    fn new(rows: &[&ViewRow], keys: &Keys, reading: &Reading) -> Self {
        let column = reading.kind.column(rows.iter().map(|row| row.key));
        let created = || rows.iter().map(|row| row.created).collect();
        let values: ArrayRef = Arc::new(rows.iter().map(|r| r.value).collect::<Int64Array>());
        Self {
            numbers: keys.find(&[column], rows.len()).unwrap(),
            us: rows.iter().map(|row| row.us).collect(),
            created: reading.created.then(created),
            features: RecordBatch::try_new(schema(), vec![values]).unwrap(),
            file: rows[0].file,
        }
    }

    fn push(&self, into: &AsOf, window: &mut Window) {
        let rows = Rows {
            numbers: &self.numbers,
            us: &self.us,
            created: self.created.as_ref(),
            features: self.features.clone(),
            file: self.file,
        };
        into.push(&rows, window).unwrap();
    }
}

fn schema() -> Arc<Schema> {
    let value = Field::new("value", DataType::Int64, true);
    Arc::new(Schema::new(vec![value]))
}

impl Order {
    fn push(&self, files: Vec<Vec<Batch>>, into: &AsOf) {
        let turns = match self {
            Self::Turns(turns) => turns,
            Self::Workers => {
                return std::thread::scope(|scope| {
                    for file in &files {
                        scope.spawn(|| {
                            let mut window = Window::default();
                            file.iter().for_each(|batch| batch.push(into, &mut window));
                        });
                    }
                });
            }
        };
        let files = files
            .into_iter()
            .map(Vec::into_iter)
            .map(Iterator::peekable);
        let mut files: Vec<_> = files.collect();
        let mut window = Window::default();
        for turn in turns.iter().cycle() {
            files.retain_mut(|file| file.peek().is_some());
            if files.is_empty() {
                return;
            }
            let file = turn % files.len();
            files[file].next().unwrap().push(into, &mut window);
        }
    }
}

/// The join, in small batches.
fn joined(
    entities: &[EntityRow],
    view: &[ViewRow],
    ttl: Option<i64>,
    reading: &Reading,
) -> Vec<Option<i64>> {
    let keys = reading.kind.column(entities.iter().map(|e| e.key));
    let times = entities.iter().map(|e| e.ns);
    let times: ArrayRef = Arc::new(times.collect::<TimestampNanosecondArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", keys.clone(), true),
        ("event_timestamp", times, true),
    ]);
    let rows = EntityRows::new(batch.unwrap()).unwrap();
    let types = [keys.data_type().clone()];
    let columns = [("id".to_owned(), keys)];
    let (keys, numbers) = Keys::new(&columns, &types, entities.len()).unwrap();
    let slots = Arc::new(Slots::new(&numbers, &rows.moments));
    let all = AsOf::in_shares(slots, ttl, schema(), reading.shares);
    let files = (0..FILES).map(|file| {
        let rows = view.iter().filter(|row| row.file as usize == file);
        let rows: Vec<&ViewRow> = rows.collect();
        let batches = rows.chunks(reading.batch_rows);
        batches
            .map(|rows| Batch::new(rows, &keys, reading))
            .collect()
    });
    reading.order.push(files.collect(), &all);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let found = runtime
        .unwrap()
        .block_on(all.finish(&rows.moments))
        .unwrap();
    found[0].as_primitive::<Int64Type>().iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_join_says_what_the_reference_says(
        entities in prop::collection::vec(entity_row(), 0..30),
        view in prop::collection::vec(view_row(), 0..60),
        ttl in prop::option::of(0i64..8),
        reading in reading(),
    ) {
        prop_assert_eq!(
            joined(&entities, &view, ttl, &reading),
            expected(&entities, &view, ttl, reading.created)
        );
    }
}

#[test]
fn rows_that_are_thrown_away_while_reading_do_not_change_the_answer() {
    // One slot, and far more rows than are kept: each is newer than the one before.
    let entities = [EntityRow {
        key: Some(1),
        ns: Some(i64::from(u32::MAX) * 1000),
    }];
    let view: Vec<ViewRow> = (0..200_000)
        .map(|n| ViewRow {
            key: Some(1),
            us: Some(n),
            created: None,
            value: Some(n),
            file: 0,
        })
        .collect();
    let reading = Reading {
        kind: Kind::Near,
        created: true,
        shares: 1,
        batch_rows: 1,
        order: Order::Turns(vec![0]),
    };
    assert_eq!(joined(&entities, &view, None, &reading), [Some(199_999)]);
}
