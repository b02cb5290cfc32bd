//! The as-of join: rows of a view, in any order, into the entity rows that they are the newest
//! for. One pass over the view; memory grows with the entity rows.
//!
//! Entity rows are sorted by key and time into *slots*. A row of the view goes to the first slot
//! of its key that is not before it: that slot's newest row beats all that slots before it have.
//! At the end each slot without a row of its own takes over the newest one before it.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow_schema::SchemaRef;
use arrow_select::interleave::{interleave, interleave_record_batch};
use arrow_select::take::take_record_batch;

use super::entities::Moments;
use crate::error::Error;

/// Entity rows, sorted by key and time.
pub(crate) struct Slots {
    /// The entity row of each slot.
    rows: Vec<u32>,
    us: Vec<i64>,
    /// The slots of each key.
    keys: Vec<Range<u32>>,
}

/// In place of a slot: none.
const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// Sorts entity rows by the number of their key (`None`: about nothing) and their time.
    pub(crate) fn new(numbers: &[Option<u32>], moments: &Moments) -> Self {
        let known = |row: &u32| numbers[*row as usize].is_some() && moments.known[*row as usize];
        let mut rows: Vec<u32> = (0..numbers.len() as u32).filter(known).collect();
        rows.sort_unstable_by_key(|row| (numbers[*row as usize], moments.us[*row as usize], *row));
        let count = numbers
            .iter()
            .flatten()
            .max()
            .map_or(0, |max| *max as usize + 1);
        let mut keys = vec![0..0; count];
        for (slot, row) in rows.iter().enumerate() {
            let number = numbers[*row as usize].unwrap_or_default() as usize;
            let slot = slot as u32;
            if keys[number].is_empty() {
                keys[number] = slot..slot + 1;
            } else {
                keys[number].end = slot + 1;
            }
        }
        let us = rows.iter().map(|row| moments.us[*row as usize]).collect();
        Self { rows, us, keys }
    }

    /// The earliest and latest time that a row of a view can have and still count.
    pub(crate) fn range(&self, ttl_us: Option<i64>) -> Option<(i64, i64)> {
        let first = self.us.iter().min()?;
        let last = self.us.iter().max()?;
        let first = ttl_us.map_or(i64::MIN, |ttl| first.saturating_sub(ttl));
        Some((first, *last))
    }

    /// The first slot of a key that is not before `us`, unless that is too late for the ttl.
    fn find(&self, number: u32, us: i64, ttl_us: i64) -> u32 {
        let Some(slots) = self.keys.get(number as usize) else {
            return NO_SLOT;
        };
        let times = &self.us[slots.start as usize..slots.end as usize];
        let slot = slots.start + times.partition_point(|t| *t < us) as u32;
        if slot < slots.end && self.us[slot as usize].saturating_sub(us) <= ttl_us {
            slot
        } else {
            NO_SLOT
        }
    }
}

/// Which of two rows of the same time is the newer; of two that are the same in this too, the one
/// that came first in the table's files, so that a read of the same snapshot gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tie {
    /// A null is older than any time.
    created: Option<i64>,
    file: Reverse<u32>,
}

/// Where a slot's newest row is kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    batch: u32,
    row: u32,
}

impl Place {
    const NOWHERE: Self = Self {
        batch: u32::MAX,
        row: 0,
    };

    fn is_somewhere(self) -> bool {
        self.batch != u32::MAX
    }
}

/// The newest row of each slot so far. A list for each part: of most rows only the time is looked
/// at, and the times of all slots stay in the processor's cache.
struct Best {
    us: Vec<i64>,
    places: Vec<Place>,
    ties: Vec<Tie>,
}

impl Best {
    fn new(slots: usize) -> Self {
        let first = Tie {
            created: None,
            file: Reverse(u32::MAX),
        };
        Self {
            us: vec![i64::MIN; slots],
            places: vec![Place::NOWHERE; slots],
            ties: vec![first; slots],
        }
    }

    fn is_beaten(&self, slot: usize, us: i64, tie: impl FnOnce() -> Tie) -> bool {
        !self.places[slot].is_somewhere()
            || us > self.us[slot]
            || (us == self.us[slot] && tie() > self.ties[slot])
    }

    fn set(&mut self, slot: usize, us: i64, tie: Tie, place: Place) {
        self.us[slot] = us;
        self.ties[slot] = tie;
        self.places[slot] = place;
    }
}

/// The rows of a view that are the newest for some slot, so far.
pub(crate) struct AsOf {
    slots: Arc<Slots>,
    ttl_us: Option<i64>,
    best: Best,
    /// The feature columns of the rows that were the newest when they came.
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    schema: SchemaRef,
}

/// Kept rows that no slot wants any more are thrown away when there are more than this, and more
/// than there are slots.
const SLACK_ROWS: usize = 65_536;

/// A batch of a view.
pub(crate) struct Rows<'b> {
    /// Of each row the number of its key.
    pub(crate) numbers: &'b [Option<u32>],
    pub(crate) us: &'b TimestampMicrosecondArray,
    pub(crate) created: Option<&'b TimestampMicrosecondArray>,
    pub(crate) features: RecordBatch,
    /// The place of the batch's file among the table's files.
    pub(crate) file: u32,
}

impl Rows<'_> {
    fn tie(&self, row: usize) -> Tie {
        let created = self.created.filter(|created| created.is_valid(row));
        Tie {
            created: created.map(|created| created.value(row)),
            file: Reverse(self.file),
        }
    }
}

impl AsOf {
    pub(crate) fn new(slots: Arc<Slots>, ttl_us: Option<i64>, schema: SchemaRef) -> Self {
        Self {
            best: Best::new(slots.rows.len()),
            slots,
            ttl_us,
            kept: Vec::new(),
            kept_rows: 0,
            schema,
        }
    }

    /// Takes rows of the view, in any order.
    pub(crate) fn push(&mut self, rows: &Rows<'_>) -> Result<(), Error> {
        let batch = self.kept.len() as u32;
        let mut touched = Vec::new();
        for (row, slot) in self.find(rows).into_iter().enumerate() {
            let us = rows.us.value(row);
            let slot = slot as usize;
            if slot == NO_SLOT as usize || !self.best.is_beaten(slot, us, || rows.tie(row)) {
                continue;
            }
            if self.best.places[slot].batch != batch {
                touched.push(slot);
            }
            let place = Place {
                batch,
                row: row as u32,
            };
            self.best.set(slot, us, rows.tie(row), place);
        }
        if touched.is_empty() {
            return Ok(());
        }
        let mut indices = Vec::with_capacity(touched.len());
        for slot in touched {
            let place = &mut self.best.places[slot];
            let row = std::mem::replace(&mut place.row, indices.len() as u32);
            indices.push(row);
        }
        let taken = take_record_batch(&rows.features, &UInt32Array::from(indices))?;
        self.kept_rows += taken.num_rows();
        self.kept.push(taken);
        if self.kept_rows > SLACK_ROWS && self.kept_rows > 2 * self.slots.rows.len() {
            self.compact()?;
        }
        Ok(())
    }

    /// The slot of each row. A pass of its own: the processor looks for many rows at once.
    fn find(&self, rows: &Rows<'_>) -> Vec<u32> {
        let ttl_us = self.ttl_us.unwrap_or(i64::MAX);
        let slot = |number: Option<u32>, us| match number {
            Some(number) => self.slots.find(number, us, ttl_us),
            None => NO_SLOT,
        };
        let given = rows.numbers.iter().zip(rows.us.values());
        let mut slots: Vec<u32> = given.map(|(number, us)| slot(*number, *us)).collect();
        if rows.us.null_count() > 0 {
            let without_time = (0..slots.len()).filter(|row| rows.us.is_null(*row));
            without_time.for_each(|row| slots[row] = NO_SLOT);
        }
        slots
    }

    fn compact(&mut self) -> Result<(), Error> {
        let mut indices = Vec::new();
        let places = self.best.places.iter_mut();
        for place in places.filter(|place| place.is_somewhere()) {
            indices.push((place.batch as usize, place.row as usize));
            *place = Place {
                batch: 0,
                row: indices.len() as u32 - 1,
            };
        }
        let batches: Vec<&RecordBatch> = self.kept.iter().collect();
        let compacted = interleave_record_batch(&batches, &indices)?;
        self.kept_rows = compacted.num_rows();
        self.kept = vec![compacted];
        Ok(())
    }

    /// Takes what another one found in other files of the same view.
    pub(crate) fn merge(&mut self, other: Self) {
        let offset = self.kept.len() as u32;
        self.kept_rows += other.kept_rows;
        self.kept.extend(other.kept);
        for (slot, mut place) in other.best.places.into_iter().enumerate() {
            let (us, tie) = (other.best.us[slot], other.best.ties[slot]);
            if place.is_somewhere() && self.best.is_beaten(slot, us, || tie) {
                place.batch += offset;
                self.best.set(slot, us, tie, place);
            }
        }
    }

    /// The feature columns for all entity rows, in their order.
    pub(crate) fn finish(self, moments: &Moments) -> Result<Vec<ArrayRef>, Error> {
        let nowhere = (self.kept.len(), 0);
        let mut places = vec![nowhere; moments.us.len()];
        for slots in &self.slots.keys {
            let mut newest = None;
            for slot in slots.clone() {
                let slot = slot as usize;
                let own = self.best.places[slot];
                if own.is_somewhere() {
                    newest = Some((self.best.us[slot], own));
                }
                let Some((us, place)) = newest else { continue };
                let row = self.slots.rows[slot] as usize;
                let in_time = |ttl| moments.age(row, us) <= ttl;
                if self.ttl_us.is_none_or(in_time) {
                    places[row] = (place.batch as usize, place.row as usize);
                }
            }
        }
        let columns = self
            .schema
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let null = new_null_array(field.data_type(), 1);
                let kept = self.kept.iter().map(|batch| batch.column(index).as_ref());
                let arrays: Vec<_> = kept.chain([null.as_ref()]).collect();
                Ok(interleave(&arrays, &places)?)
            });
        columns.collect()
    }
}
