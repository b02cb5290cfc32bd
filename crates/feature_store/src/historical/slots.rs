//! Entity rows as the as-of join looks for them: sorted by key and time.

use super::asked::Asked;
use super::entities::Moments;
use super::keys::NO_KEY;

/// Entity rows, sorted by key and time.
pub(crate) struct Slots {
    /// The entity row of each slot.
    pub(super) rows: Vec<u32>,
    /// Their times, and [`FEW`] more behind the last.
    us: Vec<i64>,
    /// Where the slots of each key begin; then those of all other keys, which have none, begin and end.
    starts: Vec<u32>,
    asked: Asked,
}

/// Most keys have at most so many slots: all of them are looked at, without a jump that the
/// processor would have to guess, so that it looks for many rows at once.
const FEW: usize = 4;

/// In place of a slot: none.
pub(super) const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// Sorts entity rows by the number of their key and their time; those about nothing, and those
    /// without a time, have no slot.
    pub(crate) fn new(numbers: &[u32], moments: &Moments) -> Self {
        let sorted = || {
            let rows = numbers.iter().zip(&moments.known).enumerate();
            rows.filter(|(_, (number, known))| **number != NO_KEY && **known)
                .map(|(row, (number, _))| (row as u32, *number as usize))
        };
        let count = sorted().map(|(_, number)| number + 1).max().unwrap_or(0);
        let mut starts = vec![0_u32; count + 2];
        sorted().for_each(|(_, number)| starts[number + 1] += 1);
        for number in 0..=count {
            starts[number + 1] += starts[number];
        }
        let mut next = starts.clone();
        let mut rows = vec![0_u32; starts[count] as usize];
        for (row, number) in sorted() {
            rows[next[number] as usize] = row;
            next[number] += 1;
        }
        for key in starts.windows(2) {
            let of_key = &mut rows[key[0] as usize..key[1] as usize];
            of_key.sort_unstable_by_key(|row| (moments.us[*row as usize], *row));
        }
        let us = rows.iter().map(|row| moments.us[*row as usize]);
        let us = us.chain([i64::MAX; FEW]).collect();
        let times = sorted().map(|(row, number)| (moments.us[row as usize], number as u32));
        let asked = Asked::new(&times, count);
        Self {
            rows,
            us,
            starts,
            asked,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The earliest and latest time that a row of a view can have and still count.
    pub(crate) fn range(&self, ttl_us: Option<i64>) -> Option<(i64, i64)> {
        let us = &self.us[..self.len()];
        let first = us.iter().min()?;
        let last = us.iter().max()?;
        let first = ttl_us.map_or(i64::MIN, |ttl| first.saturating_sub(ttl));
        Some((first, *last))
    }

    /// The rows of a view, given the numbers of their keys and their times, whose key has a slot that
    /// they may be in time for: all that have one are among them.
    pub(super) fn asked(&self, numbers: &[u32], us: &[i64], ttl_us: i64) -> Vec<u32> {
        let first = us.iter().copied().min().unwrap_or(0);
        let last = us.iter().copied().max().unwrap_or(0);
        let last = last.saturating_add(ttl_us);
        match self.asked.between(first, last, numbers.len()) {
            Some(keys) => keys.rows(numbers),
            None => (0..numbers.len() as u32).collect(),
        }
    }

    /// The first slot of a key that is not before `us`, unless that is too late for the ttl.
    pub(super) fn find(&self, number: u32, us: i64, ttl_us: i64) -> u32 {
        let number = (number as usize).min(self.starts.len() - 2);
        let start = self.starts[number] as usize;
        let end = self.starts[number + 1] as usize;
        let before = if end - start <= FEW {
            let few = self.us[start..start + FEW].iter().enumerate();
            few.map(|(nth, time)| usize::from((nth < end - start) & (*time < us)))
                .sum()
        } else {
            self.us[start..end].partition_point(|time| *time < us)
        };
        let slot = start + before;
        let in_time = (slot < end) & (self.us[slot].saturating_sub(us) <= ttl_us);
        if in_time { slot as u32 } else { NO_SLOT }
    }

    /// The slots of each key.
    pub(super) fn by_key(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let keys = self.starts.windows(2);
        keys.map(|key| key[0] as usize..key[1] as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;
    use crate::historical::EntityRows;

    const KEYS: u32 = 200;

    fn row() -> impl Strategy<Value = (u32, i64)> {
        let number = prop_oneof![20 => 0..KEYS + 5, 1 => Just(NO_KEY)];
        (number, -50i64..1_050)
    }

    proptest! {
        #[test]
        fn a_row_that_is_not_asked_for_has_no_slot(
            entities in prop::collection::vec((0..KEYS, 0i64..1_000), 0..300),
            rows in prop::collection::vec(row(), 0..100),
            ttl_us in prop_oneof![0i64..100, Just(i64::MAX)],
        ) {
            let (numbers, times): (Vec<u32>, Vec<i64>) = entities.into_iter().unzip();
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
            let batch = RecordBatch::try_from_iter([("event_timestamp", times)]).unwrap();
            let slots = Slots::new(&numbers, &EntityRows::new(batch).unwrap().moments);
            let mut rows = rows;
            rows.sort_by_key(|(_, us)| *us);
            for some in rows.chunks(20) {
                let (numbers, us): (Vec<u32>, Vec<i64>) = some.iter().copied().unzip();
                let asked = slots.asked(&numbers, &us, ttl_us);
                let has_slot = |row: &usize| slots.find(numbers[*row], us[*row], ttl_us) != NO_SLOT;
                for row in (0..some.len()).filter(has_slot) {
                    prop_assert!(asked.contains(&(row as u32)), "{:?}", some[row]);
                }
                prop_assert!(asked.is_sorted());
            }
        }
    }
}
