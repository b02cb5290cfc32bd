//! Entity rows as the as-of join looks for them: sorted by key and time.

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
        Self { rows, us, starts }
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
