//! The as-of join: rows of a view, in any order, into the entity rows that they are the newest
//! for. One pass over the view; memory grows with the entity rows.
//!
//! A row of the view goes to the first slot of its key that is not before it: that slot's newest
//! row beats all that slots before it have. At the end each slot without a row of its own takes
//! over the newest one before it. All workers fill the same slots, a share of which is locked at a
//! time: more workers need no more memory.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{
    Array as _, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow_schema::SchemaRef;
use arrow_select::interleave::{interleave, interleave_record_batch};
use arrow_select::take::take_record_batch;

use super::entities::Moments;
use super::slots::Slots;
use super::window::{Found, Window};
use crate::cores::{on_all_cores, processors};
use crate::error::Error;

/// Which of two rows of the same time is the newer; of two that are the same in this too, the one
/// that came first in the table's files, so that a read of the same snapshot gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tie {
    /// A null is older than any time.
    created: Option<i64>,
    file: Reverse<u32>,
}

/// The newest row of a slot so far, and where it is kept.
#[derive(Debug, Clone, Copy)]
struct Best {
    us: i64,
    batch: u32,
    row: u32,
    file: u32,
}

impl Best {
    const NONE: Self = Self {
        us: i64::MIN,
        batch: u32::MAX,
        row: 0,
        file: 0,
    };

    fn is_there(&self) -> bool {
        self.batch != u32::MAX
    }
}

/// The rows of a view that are the newest for some slot, so far.
pub(crate) struct AsOf {
    slots: Arc<Slots>,
    ttl_us: Option<i64>,
    shares: Vec<Mutex<Share>>,
    /// How many slots a share has.
    share_slots: usize,
    /// What each share may keep beside what is the newest.
    slack: Slack,
    schema: SchemaRef,
}

/// Some of the slots, one behind the other.
#[derive(Default)]
struct Share {
    best: Vec<Best>,
    /// When the newest row of each slot was created; empty for a view that does not know.
    created: Vec<Option<i64>>,
    /// The feature columns of the rows that were the newest when they came.
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    kept_bytes: usize,
    /// How many slots have a row.
    filled: usize,
}

/// Shares for each worker: one finds most of them free.
const SHARES_A_WORKER: usize = 2;

/// A share of fewer slots than this is not worth a lock of its own.
const SHARE_SLOTS: usize = 4_096;

/// How much is kept that no slot wants any more, in all shares together, before it is thrown away;
/// as much as what slots want is kept anyhow, so that throwing away pays.
const SLACK_ROWS: usize = 16_384;
const SLACK_BYTES: usize = 16 * 1024 * 1024;

/// The least that a share keeps so, of however many it is one.
const LEAST_SLACK_ROWS: usize = 1_024;
const LEAST_SLACK_BYTES: usize = 256 * 1024;

/// A share keeps so many batches, and more of them when each has so many rows: each has a head for
/// every column.
const KEPT_BATCHES: usize = 256;
const BATCH_ROWS: usize = 64;

/// What a share may keep beside the newest rows.
#[derive(Debug, Clone, Copy)]
struct Slack {
    rows: usize,
    bytes: usize,
}

impl Slack {
    fn of_one_in(shares: usize) -> Self {
        Self {
            rows: (SLACK_ROWS / shares).max(LEAST_SLACK_ROWS),
            bytes: (SLACK_BYTES / shares).max(LEAST_SLACK_BYTES),
        }
    }
}

/// A batch of a view.
pub(crate) struct Rows<'b> {
    /// Of each row the number of its key.
    pub(crate) numbers: &'b [u32],
    pub(crate) us: &'b TimestampMicrosecondArray,
    pub(crate) created: Option<&'b TimestampMicrosecondArray>,
    pub(crate) features: RecordBatch,
    /// The place of the batch's file among the table's files.
    pub(crate) file: u32,
}

impl Rows<'_> {
    fn created(&self, row: usize) -> Option<i64> {
        let created = self.created.filter(|created| created.is_valid(row))?;
        Some(created.value(row))
    }
}

impl AsOf {
    pub(crate) fn new(
        slots: Arc<Slots>,
        ttl_us: Option<i64>,
        schema: SchemaRef,
        workers: usize,
    ) -> Self {
        let shares = (workers * SHARES_A_WORKER).max(1);
        let shares = shares.min(slots.len() / SHARE_SLOTS + 1);
        Self::in_shares(slots, ttl_us, schema, shares)
    }

    pub(super) fn in_shares(
        slots: Arc<Slots>,
        ttl_us: Option<i64>,
        schema: SchemaRef,
        shares: usize,
    ) -> Self {
        let share_slots = slots.len().div_ceil(shares).max(1);
        let share = |first: usize| {
            let count = share_slots.min(slots.len() - first);
            Mutex::new(Share {
                best: vec![Best::NONE; count],
                ..Share::default()
            })
        };
        Self {
            shares: (0..slots.len()).step_by(share_slots).map(share).collect(),
            share_slots,
            slack: Slack::of_one_in(shares),
            slots,
            ttl_us,
            schema,
        }
    }

    /// About how much memory a read for so many entity rows takes, in bytes, whose features take
    /// `width` a row; all that there is where that cannot be told.
    pub(crate) fn bytes(slots: &Slots, rows: usize, width: Option<usize>, created: bool) -> usize {
        let Some(width) = width else {
            return usize::MAX;
        };
        let created = usize::from(created) * size_of::<Option<i64>>();
        // Twice as many rows are kept as there are slots.
        let slot = width.saturating_mul(2) + size_of::<Best>() + created;
        let slack = width.saturating_mul(SLACK_ROWS).min(SLACK_BYTES);
        let answer = width.saturating_add(size_of::<(usize, usize)>());
        let windows = Window::bytes(slots).saturating_mul(processors());
        let all = slot.saturating_mul(slots.len()).saturating_add(slack);
        let all = all.saturating_add(windows);
        all.saturating_add(answer.saturating_mul(rows))
    }

    /// Takes rows of the view; those of one file in their order, files in any.
    pub(crate) fn push(&self, rows: &Rows<'_>, window: &mut Window) -> Result<(), Error> {
        let found = self.find(rows, window);
        let count = found.len();
        // Who reads another file begins with another share.
        for nth in 0..count {
            let share = (nth + rows.file as usize) % count;
            if !found[share].is_empty() {
                self.share(share).push(rows, &found[share], self.slack)?;
            }
        }
        Ok(())
    }

    fn share(&self, share: usize) -> MutexGuard<'_, Share> {
        let share = self.shares[share].lock();
        share.unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of each share, with their slots among those of the share.
    fn find(&self, rows: &Rows<'_>, window: &mut Window) -> Vec<Vec<Found>> {
        let ttl_us = self.ttl_us.unwrap_or(i64::MAX);
        let us = rows.us.values();
        let mut found = vec![Vec::new(); self.shares.len()];
        let share_slots = self.share_slots as u32;
        for (row, slot) in window.find(&self.slots, rows.numbers, us, ttl_us) {
            if rows.us.is_valid(*row as usize) {
                let share = (slot / share_slots) as usize;
                found[share].push((*row, slot % share_slots));
            }
        }
        found
    }

    /// The feature columns for all entity rows, in their order.
    pub(crate) async fn finish(self, moments: &Moments) -> Result<Vec<ArrayRef>, Error> {
        let shares = self.shares.into_iter().map(Mutex::into_inner);
        let shares: Vec<Share> = shares
            .map(|share| share.unwrap_or_else(PoisonError::into_inner))
            .collect();
        let places = carried(&shares, &self.slots, self.ttl_us, moments);
        let kept = shares.into_iter().flat_map(|share| share.kept);
        let kept = kept_columns(kept, &self.schema);
        let columns = kept.len();
        let column = move |index: usize| {
            // What is kept of a column goes when the column is there.
            let mut kept = kept[index].lock().unwrap_or_else(PoisonError::into_inner);
            let kept = std::mem::take(&mut *kept);
            let arrays: Vec<_> = kept.iter().map(AsRef::as_ref).collect();
            Ok(interleave(&arrays, &places)?)
        };
        on_all_cores(columns, column).await
    }
}

/// The columns of all batches that are kept, each with a null behind the last.
fn kept_columns(
    batches: impl Iterator<Item = RecordBatch>,
    schema: &SchemaRef,
) -> Vec<Mutex<Vec<ArrayRef>>> {
    let mut columns = vec![Vec::new(); schema.fields().len()];
    for batch in batches {
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.push(array.clone());
        }
    }
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        column.push(new_null_array(field.data_type(), 1));
    }
    columns.into_iter().map(Mutex::new).collect()
}

/// Where the values of each entity row are kept, as the number of a batch and of a row in it: those
/// of its slot, or of the newest slot before it that has some; of a row without, the null behind the
/// last batch.
fn carried(
    shares: &[Share],
    slots: &Slots,
    ttl_us: Option<i64>,
    moments: &Moments,
) -> Vec<(usize, usize)> {
    let mut batches = 0;
    let mut own = Vec::with_capacity(slots.len());
    for share in shares {
        own.extend(share.best.iter().map(|best| (batches, best)));
        batches += share.kept.len();
    }
    let mut places = vec![(batches, 0); moments.us.len()];
    for of_key in slots.by_key() {
        let mut newest = None;
        for slot in of_key {
            let slot = *slot as usize;
            let (first, best) = own[slot];
            if best.is_there() {
                newest = Some((best.us, (first + best.batch as usize, best.row as usize)));
            }
            let Some((us, place)) = newest else { continue };
            let row = slots.rows[slot] as usize;
            if ttl_us.is_none_or(|ttl| moments.age(row, us) <= ttl) {
                places[row] = place;
            }
        }
    }
    places
}

impl Share {
    fn push(&mut self, rows: &Rows<'_>, found: &[Found], slack: Slack) -> Result<(), Error> {
        if rows.created.is_some() && self.created.is_empty() {
            self.created = vec![None; self.best.len()];
        }
        let batch = self.kept.len() as u32;
        let mut touched = Vec::new();
        for (row, slot) in found {
            let us = rows.us.value(*row as usize);
            let slot = *slot as usize;
            if !self.is_beaten(slot, us, rows, *row as usize) {
                continue;
            }
            if self.best[slot].batch != batch {
                touched.push(slot);
            }
            self.filled += usize::from(!self.best[slot].is_there());
            self.best[slot] = Best {
                us,
                batch,
                row: *row,
                file: rows.file,
            };
            if rows.created.is_some() {
                self.created[slot] = rows.created(*row as usize);
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        let mut indices = Vec::with_capacity(touched.len());
        for slot in touched {
            let best = &mut self.best[slot];
            indices.push(std::mem::replace(&mut best.row, indices.len() as u32));
        }
        let taken = take_record_batch(&rows.features, &UInt32Array::from(indices))?;
        self.kept_rows += taken.num_rows();
        self.kept_bytes += taken.get_array_memory_size();
        self.kept.push(taken);
        if self.is_loose(slack) {
            self.compact()?;
        }
        Ok(())
    }

    /// Whether much is kept that no slot wants any more, or in too small parts.
    fn is_loose(&self, slack: Slack) -> bool {
        let much = self.kept_rows > slack.rows || self.kept_bytes > slack.bytes;
        let small = self.kept.len() > KEPT_BATCHES && self.kept.len() > self.kept_rows / BATCH_ROWS;
        small || (much && self.kept_rows > 2 * self.filled)
    }

    fn is_beaten(&self, slot: usize, us: i64, rows: &Rows<'_>, row: usize) -> bool {
        let best = &self.best[slot];
        if us != best.us || !best.is_there() {
            return us > best.us || !best.is_there();
        }
        let there = Tie {
            created: self.created.get(slot).copied().flatten(),
            file: Reverse(best.file),
        };
        let new = Tie {
            created: rows.created(row),
            file: Reverse(rows.file),
        };
        new > there
    }

    fn compact(&mut self) -> Result<(), Error> {
        let mut indices = Vec::with_capacity(self.best.len());
        let there = self.best.iter_mut().filter(|best| best.is_there());
        for best in there {
            indices.push((best.batch as usize, best.row as usize));
            (best.batch, best.row) = (0, indices.len() as u32 - 1);
        }
        let batches: Vec<&RecordBatch> = self.kept.iter().collect();
        let compacted = interleave_record_batch(&batches, &indices)?;
        self.kept_rows = compacted.num_rows();
        self.kept_bytes = compacted.get_array_memory_size();
        self.kept = vec![compacted];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Float32Type;
    use arrow_array::{FixedSizeListArray, TimestampNanosecondArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::historical::EntityRows;

    const WIDE: i32 = 768;

    fn wide() -> DataType {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        DataType::FixedSizeList(item, WIDE)
    }

    fn slots(count: usize) -> Slots {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MAX; count]));
        let rows = RecordBatch::try_from_iter([("event_timestamp", times)]).unwrap();
        let rows = EntityRows::new(rows).unwrap();
        Slots::new(&(0..count as u32).collect::<Vec<_>>(), &rows.moments)
    }

    /// What is kept of batches of one row, each newer than the one before, of the keys in turn.
    fn kept(keys: u32, shares: usize, batches: i64) -> (usize, usize, usize) {
        let schema = Arc::new(Schema::new(vec![Field::new("wide", wide(), true)]));
        let slots = Arc::new(slots(keys as usize));
        let all = AsOf::in_shares(slots, None, schema.clone(), shares);
        let values = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0); WIDE as usize])],
            WIDE,
        );
        let features = RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap();
        for us in 0..batches {
            let rows = Rows {
                numbers: &[us as u32 % keys],
                us: &vec![us].into(),
                created: None,
                features: features.clone(),
                file: 0,
            };
            all.push(&rows, &mut Window::default()).unwrap();
        }
        let shares = (0..all.shares.len()).map(|share| all.share(share));
        shares.fold((0, 0, 0), |(rows, bytes, batches), share| {
            assert!(share.filled > 0);
            let kept = share.kept.iter().map(RecordBatch::get_array_memory_size);
            assert_eq!(share.kept_bytes, kept.sum::<usize>());
            let batches = batches + share.kept.len();
            (rows + share.kept_rows, bytes + share.kept_bytes, batches)
        })
    }

    #[test]
    fn rows_that_no_slot_wants_take_little_memory_however_wide_they_are() {
        let (_, bytes, batches) = kept(1, 1, 10_000);
        assert!(bytes < SLACK_BYTES + (1 << 20), "{bytes}");
        assert!(batches <= KEPT_BATCHES, "{batches}");
        // Nor do more shares keep more.
        let (_, bytes, batches) = kept(64, 64, 20_000);
        assert!(bytes < SLACK_BYTES + (1 << 20), "{bytes}");
        assert!(batches <= 64 * KEPT_BATCHES, "{batches}");
    }

    #[test]
    fn slots_that_are_few_are_in_one_share_and_many_in_no_more_than_help() {
        let shares = |count, workers| {
            let schema = Arc::new(Schema::empty());
            let all = AsOf::new(Arc::new(slots(count)), None, schema, workers);
            all.shares.len()
        };
        assert_eq!([shares(0, 64), shares(100, 64)], [0, 1]);
        assert_eq!([shares(20_000, 2), shares(20_000, 64)], [4, 5]);
    }
}
