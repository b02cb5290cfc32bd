//! Entity rows as the as-of join looks for them: by their times, and by key and time.

use std::ops::Range;

use super::entities::Moments;
use super::keys::NO_KEY;

/// Entity rows in the order of their times, so that those which rows of about the same time are for
/// lie close together.
pub(crate) struct Slots {
    /// The entity row of each slot.
    pub(super) rows: Vec<u32>,
    us: Vec<i64>,
    /// The number of each one's key.
    numbers: Vec<u32>,
    /// The next slot of the same key, if there is one.
    next: Vec<u32>,
    by_key: ByKey,
}

/// The slots of each key, in the order of their times.
struct ByKey {
    slots: Vec<u32>,
    /// Their times, and [`FEW`] more behind the last.
    us: Vec<i64>,
    /// Where the slots of each key begin; then those of all other keys, which have none, begin and end.
    starts: Vec<u32>,
}

/// Most keys have at most so many slots: all of them are looked at, without a jump that the
/// processor would have to guess, so that it looks for many rows at once.
const FEW: usize = 4;

/// In place of a slot: none.
pub(super) const NO_SLOT: u32 = u32::MAX;

impl Slots {
    /// Sorts entity rows, given the numbers of their keys; those about nothing, and those without a
    /// time, have no slot.
    pub(crate) fn new(numbers: &[u32], moments: &Moments) -> Self {
        let known = numbers.iter().zip(&moments.known).enumerate();
        let known = known.filter(|(_, (number, known))| **number != NO_KEY && **known);
        let mut sorted: Vec<(i64, u32)> = known
            .map(|(row, _)| (moments.us[row], row as u32))
            .collect();
        sorted.sort_unstable();
        let us: Vec<i64> = sorted.iter().map(|(us, _)| *us).collect();
        let rows: Vec<u32> = sorted.into_iter().map(|(_, row)| row).collect();
        let numbers: Vec<u32> = rows.iter().map(|row| numbers[*row as usize]).collect();
        let by_key = ByKey::new(&numbers, &us);
        let mut next = vec![NO_SLOT; rows.len()];
        for two in by_key.slots.windows(2) {
            if numbers[two[0] as usize] == numbers[two[1] as usize] {
                next[two[0] as usize] = two[1];
            }
        }
        Self {
            rows,
            us,
            numbers,
            next,
            by_key,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many numbers of keys there are.
    pub(super) fn keys(&self) -> usize {
        self.by_key.starts.len() - 2
    }

    pub(super) fn us(&self, slot: u32) -> i64 {
        self.us[slot as usize]
    }

    /// The number of a slot's key.
    pub(super) fn number(&self, slot: usize) -> u32 {
        self.numbers[slot]
    }

    pub(super) fn next(&self, slot: usize) -> u32 {
        self.next[slot]
    }

    /// The earliest and latest time that a row of a view can have and still count.
    pub(crate) fn range(&self, ttl_us: Option<i64>) -> Option<(i64, i64)> {
        let (first, last) = (self.us.first()?, self.us.last()?);
        let first = ttl_us.map_or(i64::MIN, |ttl| first.saturating_sub(ttl));
        Some((first, *last))
    }

    /// The slots from one time to another, both inclusive.
    pub(super) fn between(&self, first_us: i64, last_us: i64) -> Range<usize> {
        let start = self.us.partition_point(|us| *us < first_us);
        start..self.us.partition_point(|us| *us <= last_us).max(start)
    }

    /// The first slot of a key that is not before `us`, unless that is too late for the ttl.
    pub(super) fn find(&self, number: u32, us: i64, ttl_us: i64) -> u32 {
        let ByKey {
            slots,
            us: times,
            starts,
        } = &self.by_key;
        let number = (number as usize).min(self.keys());
        let start = starts[number] as usize;
        let end = starts[number + 1] as usize;
        let before = if end - start <= FEW {
            let few = times[start..start + FEW].iter().enumerate();
            few.map(|(nth, time)| usize::from((nth < end - start) & (*time < us)))
                .sum()
        } else {
            times[start..end].partition_point(|time| *time < us)
        };
        let place = start + before;
        let in_time = (place < end) & (times[place].saturating_sub(us) <= ttl_us);
        if in_time { slots[place] } else { NO_SLOT }
    }

    /// The slots of each key, in the order of their times.
    pub(super) fn by_key(&self) -> impl Iterator<Item = &[u32]> {
        let keys = self.by_key.starts.windows(2);
        keys.map(|key| &self.by_key.slots[key[0] as usize..key[1] as usize])
    }
}

impl ByKey {
    /// Takes the number and the time of each slot.
    fn new(numbers: &[u32], us: &[i64]) -> Self {
        let count = numbers.iter().max().map_or(0, |last| *last as usize + 1);
        let mut starts = vec![0_u32; count + 2];
        for number in numbers {
            starts[*number as usize + 1] += 1;
        }
        for number in 0..=count {
            starts[number + 1] += starts[number];
        }
        let mut next = starts.clone();
        let mut slots = vec![0; numbers.len()];
        for (slot, number) in numbers.iter().enumerate() {
            let place = &mut next[*number as usize];
            slots[*place as usize] = slot as u32;
            *place += 1;
        }
        let times = slots.iter().map(|slot| us[*slot as usize]);
        let times = times.chain([i64::MAX; FEW]).collect();
        Self {
            slots,
            us: times,
            starts,
        }
    }
}
