//! Which keys have a slot for the rows of one batch. A table that grows with time has batches that
//! span little of it, one after the other: most of their rows are about a key that no entity row has
//! soon after them, the slots of the others lie close together, and few of those change from batch
//! to batch.

use std::ops::Range;

use super::slots::{NO_SLOT, Slots};

/// How many slots are taken in or left out in the time that a look at one key's slots takes.
const SLOTS_A_LOOK: usize = 8;

/// How many batches are taken to follow one that begins anew.
const BATCHES: usize = 8;

/// A row of a batch, and the slot that it is for.
pub(super) type Found = (u32, u32);

/// Of each key the first slot within the time of a batch; for one batch after the other.
#[derive(Default)]
pub(crate) struct Window {
    /// The slots within that time.
    within: Range<usize>,
    /// By the number of the key, and one more for all numbers that are no key.
    first: Vec<u32>,
    /// The last that was found, and behind it what was before.
    found: Vec<Found>,
}

impl Window {
    /// About how many bytes one takes.
    pub(super) fn bytes(slots: &Slots) -> usize {
        slots.keys().saturating_mul(size_of::<u32>())
    }

    /// The rows of a batch that have a slot, given the numbers of their keys and their times: the
    /// first one of the key that is not before the row, unless that is too late for the ttl.
    pub(super) fn find(
        &mut self,
        slots: &Slots,
        numbers: &[u32],
        us: &[i64],
        ttl_us: i64,
    ) -> &[Found] {
        self.found
            .resize(self.found.len().max(numbers.len()), (0, NO_SLOT));
        let first = us.iter().copied().min().unwrap_or(0);
        let last = us.iter().copied().max().unwrap_or(0);
        let within = slots.between(first, last.saturating_add(ttl_us));
        let spanned = slots.between(first, last).len();
        let found = if self.move_to(slots, within, spanned, numbers.len()) {
            self.firsts(numbers)
        } else {
            let looked = self
                .found
                .iter_mut()
                .zip(numbers.iter().zip(us))
                .enumerate();
            for (row, (found, (number, us))) in looked {
                *found = (row as u32, slots.find(*number, *us, ttl_us));
            }
            numbers.len()
        };
        let mut kept = 0;
        for nth in 0..found {
            let (row, mut slot) = self.found[nth];
            let (number, at) = (numbers[row as usize], us[row as usize]);
            // Another entity row of the key lies between the begin of the batch and this row.
            if slot != NO_SLOT && slots.us(slot) < at {
                slot = slots.find(number, at, ttl_us);
            }
            if slot != NO_SLOT && slots.us(slot).saturating_sub(at) <= ttl_us {
                self.found[kept] = (row, slot);
                kept += 1;
            }
        }
        &self.found[..kept]
    }

    /// Takes in the slots of another time and leaves out the others, unless it is quicker to look
    /// for each of so many rows, which span so many slots themselves.
    fn move_to(&mut self, slots: &Slots, to: Range<usize>, spanned: usize, rows: usize) -> bool {
        let most = rows.saturating_mul(SLOTS_A_LOOK);
        let from = self.within.clone();
        let follows = from.start <= to.start && to.start <= from.end && from.end <= to.end;
        let steps = if follows {
            (to.start - from.start) + (to.end - from.end)
        } else {
            // The batches behind this one are taken to span as much as it does, and to follow.
            (from.len() + to.len()) / BATCHES + spanned
        };
        if steps > most {
            return false;
        }
        self.first.resize(slots.keys() + 1, NO_SLOT);
        let entered = if follows {
            self.leave(slots, from.start..to.start, to.end);
            from.end..to.end
        } else {
            for slot in from {
                self.first[slots.number(slot) as usize] = NO_SLOT;
            }
            to.clone()
        };
        for slot in entered {
            let first = &mut self.first[slots.number(slot) as usize];
            *first = (*first).min(slot as u32);
        }
        self.within = to;
        true
    }

    /// Leaves out slots at the begin: a key has its next one, unless that is at `end` or behind.
    fn leave(&mut self, slots: &Slots, left: Range<usize>, end: usize) {
        for slot in left {
            let next = slots.next(slot);
            let next = if (next as usize) < end { next } else { NO_SLOT };
            self.first[slots.number(slot) as usize] = next;
        }
    }

    /// The rows whose key has a slot, and the first one that it has: how many there are.
    fn firsts(&mut self, numbers: &[u32]) -> usize {
        let Some(last) = self.first.len().checked_sub(1) else {
            return 0;
        };
        let mut count = 0;
        // No jump that the processor would have to guess: a row without a slot is written over by
        // the next.
        for (row, number) in numbers.iter().enumerate() {
            let slot = self.first[(*number as usize).min(last)];
            self.found[count] = (row as u32, slot);
            count += usize::from(slot != NO_SLOT);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::super::keys::NO_KEY;
    use super::*;
    use crate::historical::EntityRows;

    const KEYS: u32 = 200;

    fn row() -> impl Strategy<Value = (u32, i64)> {
        let number = prop_oneof![20 => 0..KEYS + 5, 1 => Just(NO_KEY)];
        (number, -50i64..1_050)
    }

    proptest! {
        #[test]
        fn each_row_has_the_first_slot_of_its_key_that_is_in_time(
            entities in prop::collection::vec((0..KEYS, 0i64..1_000), 0..300),
            rows in prop::collection::vec(row(), 0..100),
            ttl_us in prop_oneof![0i64..100, Just(i64::MAX)],
            in_a_batch in 1..100_usize,
            sorted in prop::bool::weighted(0.8),
        ) {
            let (numbers, times): (Vec<u32>, Vec<i64>) = entities.iter().copied().unzip();
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
            let batch = RecordBatch::try_from_iter([("event_timestamp", times)]).unwrap();
            let slots = Slots::new(&numbers, &EntityRows::new(batch).unwrap().moments);
            let mut rows = rows;
            if sorted {
                rows.sort_by_key(|(_, us)| *us);
            }
            let mut window = Window::default();
            for some in rows.chunks(in_a_batch) {
                let (numbers, us): (Vec<u32>, Vec<i64>) = some.iter().copied().unzip();
                let found = window.find(&slots, &numbers, &us, ttl_us);
                let expected = some.iter().enumerate().filter_map(|(row, (number, us))| {
                    let later = entities.iter().filter(|(n, t)| n == number && t >= us);
                    let time = later.map(|(_, t)| *t).min()?;
                    (time.saturating_sub(*us) <= ttl_us).then_some((row as u32, (*number, time)))
                });
                let of_slot = |slot: u32| (slots.number(slot as usize), slots.us(slot));
                let given = found.iter().map(|(row, slot)| (*row, of_slot(*slot)));
                prop_assert_eq!(given.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                // Of several slots of one key and time, the same one each time.
                for (row, slot) in found {
                    let (number, us) = (numbers[*row as usize], us[*row as usize]);
                    prop_assert_eq!(*slot, slots.find(number, us, ttl_us));
                }
            }
        }
    }
}
