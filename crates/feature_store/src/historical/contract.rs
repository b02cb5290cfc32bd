//! The join against a reference that is slow and plain, on generated data with every trap in it.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;

use super::as_of::{AsOf, Rows};
use super::entities::EntityRows;
use super::keys::Keys;
use super::slots::Slots;

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
        0u32..3,
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
fn expected(entities: &[EntityRow], view: &[ViewRow], ttl: Option<i64>) -> Vec<Option<i64>> {
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
        rows.sort_by_key(|row| (Reverse(row.us), Reverse(row.created), row.file));
        rows.first()?.value
    };
    entities.iter().map(newest).collect()
}

/// The join, with the files read in either order, in small batches, and the slots in several shares.
fn joined(
    entities: &[EntityRow],
    view: &[ViewRow],
    ttl: Option<i64>,
    batch_rows: usize,
    turn: bool,
) -> Vec<Option<i64>> {
    let keys: ArrayRef = Arc::new(entities.iter().map(|e| e.key).collect::<Int64Array>());
    let times: ArrayRef = Arc::new(
        entities
            .iter()
            .map(|e| e.ns)
            .collect::<TimestampNanosecondArray>(),
    );
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", keys.clone(), true),
        ("event_timestamp", times, true),
    ]);
    let rows = EntityRows::new(batch.unwrap()).unwrap();
    let columns = [("id".to_owned(), keys)];
    let (keys, numbers) = Keys::new(&columns, &[DataType::Int64], entities.len()).unwrap();
    let slots = Arc::new(Slots::new(&numbers, &rows.moments));
    let schema = Arc::new(Schema::new(vec![Field::new(
        "value",
        DataType::Int64,
        true,
    )]));
    let all = AsOf::new(slots, ttl, schema.clone(), 2);
    for nth in 0..3u32 {
        let file = if turn { 2 - nth } else { nth };
        let of_file: Vec<&ViewRow> = view.iter().filter(|row| row.file == file).collect();
        for rows in of_file.chunks(batch_rows) {
            let keys_of: ArrayRef = Arc::new(rows.iter().map(|r| r.key).collect::<Int64Array>());
            let values: ArrayRef = Arc::new(rows.iter().map(|r| r.value).collect::<Int64Array>());
            let us: TimestampMicrosecondArray = rows.iter().map(|r| r.us).collect();
            let created: TimestampMicrosecondArray = rows.iter().map(|r| r.created).collect();
            let pushed = all.push(&Rows {
                numbers: &keys.find(&[keys_of], rows.len()).unwrap(),
                us: &us,
                created: Some(&created),
                features: RecordBatch::try_new(schema.clone(), vec![values]).unwrap(),
                file,
            });
            pushed.unwrap();
        }
    }
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
        batch_rows in 1usize..20,
        turn: bool,
    ) {
        prop_assert_eq!(
            joined(&entities, &view, ttl, batch_rows, turn),
            expected(&entities, &view, ttl)
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
    assert_eq!(joined(&entities, &view, None, 1, false), [Some(199_999)]);
}
