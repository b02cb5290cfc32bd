//! The as-of join: rows of a view, in any order, into the entity rows that they are the newest
//! for. One pass over the view; memory grows with the entity rows.
//!
//! Entity rows are sorted by key and time into *slots*. A row of the view goes to the first slot
//! of its key that is not before it: that slot's newest row beats all that slots before it have.
//! At the end each slot without a row of its own takes over the newest one before it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::SchemaRef;
use arrow_select::interleave::{interleave, interleave_record_batch};
use arrow_select::take::take_record_batch;

use super::entities::Moments;
use crate::error::Error;

/// The entity rows of a view, sorted by key and time.
pub(crate) struct Slots {
    /// The entity row of each slot.
    rows: Vec<u32>,
    us: Vec<i64>,
    /// The slots of each key.
    keys: Vec<Range<u32>>,
    ttl_us: Option<i64>,
}

impl Slots {
    /// Sorts entity rows by the number of their key (`None`: about nothing) and their time.
    pub(crate) fn new(numbers: &[Option<u32>], moments: &Moments, ttl_us: Option<i64>) -> Self {
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
        Self {
            rows,
            us,
            keys,
            ttl_us,
        }
    }

    /// The earliest and latest time that a row of the view can have and still count.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        let first = self.us.iter().min()?;
        let last = self.us.iter().max()?;
        let first = self
            .ttl_us
            .map_or(i64::MIN, |ttl| first.saturating_sub(ttl));
        Some((first, *last))
    }

    /// The first slot of a key that is not before `us`, unless that is too late for the ttl.
    fn find(&self, number: u32, us: i64) -> Option<u32> {
        let slots = self.keys.get(number as usize)?;
        let times = &self.us[slots.start as usize..slots.end as usize];
        let slot = slots.start + times.partition_point(|t| *t < us) as u32;
        let slot = (slot < slots.end).then_some(slot)?;
        let in_time = self
            .ttl_us
            .is_none_or(|ttl| self.us[slot as usize].saturating_sub(us) <= ttl);
        in_time.then_some(slot)
    }
}

/// Which of two rows is the newer; of two that are the same in all, the one that came first in
/// the table's files, so that a read of the same snapshot gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    us: i64,
    /// A null is older than any time.
    created: Option<i64>,
    file: std::cmp::Reverse<u32>,
}

/// Where a slot's newest row is kept.
#[derive(Debug, Clone, Copy)]
struct Place {
    batch: u32,
    row: u32,
}

/// The rows of a view that are the newest for some slot, so far.
pub(crate) struct AsOf {
    slots: Arc<Slots>,
    best: Vec<Option<(Age, Place)>>,
    /// The feature columns of the rows that were the newest when they came.
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    schema: SchemaRef,
}

/// Kept rows that no slot wants any more are thrown away when there are more than this, and more
/// than there are slots.
const SLACK_ROWS: usize = 65_536;

/// A batch of a view: for each row the number of its key, its time, when it was created.
pub(crate) struct Rows<'b> {
    pub(crate) numbers: &'b [Option<u32>],
    pub(crate) us: &'b dyn Fn(usize) -> Option<i64>,
    pub(crate) created: &'b dyn Fn(usize) -> Option<i64>,
    pub(crate) features: RecordBatch,
    /// The place of the batch's file among the table's files.
    pub(crate) file: u32,
}

impl AsOf {
    pub(crate) fn new(slots: Arc<Slots>, schema: SchemaRef) -> Self {
        Self {
            best: vec![None; slots.rows.len()],
            slots,
            kept: Vec::new(),
            kept_rows: 0,
            schema,
        }
    }

    /// Takes rows of the view, in any order.
    pub(crate) fn push(&mut self, rows: &Rows<'_>) -> Result<(), Error> {
        let batch = self.kept.len() as u32;
        let mut touched = Vec::new();
        for (row, number) in rows.numbers.iter().enumerate() {
            let Some(number) = number else { continue };
            let Some(us) = (rows.us)(row) else { continue };
            let Some(slot) = self.slots.find(*number, us) else {
                continue;
            };
            let created = (rows.created)(row);
            let age = Age {
                us,
                created,
                file: std::cmp::Reverse(rows.file),
            };
            let best = &mut self.best[slot as usize];
            if best.is_none_or(|(before, _)| age > before) {
                if best.is_none_or(|(_, place)| place.batch != batch) {
                    touched.push(slot);
                }
                *best = Some((
                    age,
                    Place {
                        batch,
                        row: row as u32,
                    },
                ));
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        let mut indices = Vec::with_capacity(touched.len());
        for slot in touched {
            if let Some((_, place)) = &mut self.best[slot as usize] {
                let row = std::mem::replace(&mut place.row, indices.len() as u32);
                indices.push(row);
            }
        }
        let taken = take_record_batch(&rows.features, &UInt32Array::from(indices))?;
        self.kept_rows += taken.num_rows();
        self.kept.push(taken);
        if self.kept_rows > SLACK_ROWS && self.kept_rows > 2 * self.best.len() {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Error> {
        let mut indices = Vec::new();
        for (_, place) in self.best.iter_mut().flatten() {
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
        for (ours, theirs) in self.best.iter_mut().zip(other.best) {
            let Some((age, place)) = theirs else { continue };
            if ours.is_none_or(|(before, _)| age > before) {
                let place = Place {
                    batch: place.batch + offset,
                    ..place
                };
                *ours = Some((age, place));
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
                newest = self.best[slot as usize].or(newest);
                let Some((age, place)) = newest else { continue };
                let row = self.slots.rows[slot as usize] as usize;
                let ttl = self.slots.ttl_us;
                if ttl.is_none_or(|ttl| moments.age(row, age.us) <= ttl) {
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
