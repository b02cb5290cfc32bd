//! Which keys are asked for at a time. Most rows of a view are about a key that no entity row has
//! soon after them: they are known by a bit each, before anything of the entity rows is looked at.

/// The keys of the entity rows, by time.
pub(super) struct Asked {
    /// The first of the times, and how long a span of them is.
    first_us: i64,
    span_us: i64,
    /// Where the keys of each span begin, and after the last one end.
    starts: Vec<u32>,
    /// The number of each entity row's key.
    numbers: Vec<u32>,
    /// How many numbers there are.
    count: usize,
}

/// Into how many spans all times are divided.
const SPANS: usize = 512;

/// How many bits are set in the time that a look at one key's entity rows takes.
const BITS_A_LOOK: usize = 8;

/// Keys, a bit for each; behind them a word of numbers that are no key.
pub(super) struct AskedKeys(Vec<u64>);

impl Asked {
    /// Takes the times and numbers of `slots`, of `count` numbers.
    pub(super) fn new(slots: &(impl Iterator<Item = (i64, u32)> + Clone), count: usize) -> Self {
        let times = || slots.clone().map(|(us, _)| us);
        let first_us = times().min().unwrap_or(0);
        let last_us = times().max().unwrap_or(0);
        let mut asked = Self {
            first_us,
            span_us: last_us.saturating_sub(first_us) / SPANS as i64 + 1,
            starts: vec![0; SPANS + 1],
            numbers: vec![0; times().count()],
            count,
        };
        for us in times() {
            let span = asked.span(us);
            asked.starts[span + 1] += 1;
        }
        for span in 0..SPANS {
            asked.starts[span + 1] += asked.starts[span];
        }
        let mut next = asked.starts.clone();
        for (us, number) in slots.clone() {
            let place = &mut next[asked.span(us)];
            asked.numbers[*place as usize] = number;
            *place += 1;
        }
        asked
    }

    fn span(&self, us: i64) -> usize {
        let span = us.saturating_sub(self.first_us) / self.span_us;
        (span.max(0) as usize).min(SPANS - 1)
    }

    /// All keys that are asked for from one time to another, and some others; none when so many are
    /// that to know them would not help with `rows` rows.
    pub(super) fn between(&self, first_us: i64, last_us: i64, rows: usize) -> Option<AskedKeys> {
        let start = self.starts[self.span(first_us)] as usize;
        let end = self.starts[self.span(last_us) + 1] as usize;
        let numbers = self.numbers.get(start..end)?;
        if numbers.len() > (self.count / 2).min(rows.saturating_mul(BITS_A_LOOK)) {
            return None;
        }
        let mut keys = vec![0; self.count / 64 + 2];
        for number in numbers {
            keys[*number as usize / 64] |= 1 << (number % 64);
        }
        Some(AskedKeys(keys))
    }
}

impl AskedKeys {
    /// The rows whose key is asked for, given the number of each one's key.
    pub(super) fn rows(&self, numbers: &[u32]) -> Vec<u32> {
        let last = self.0.len() - 1;
        let mut rows = vec![0; numbers.len()];
        let mut count = 0;
        // No jump that the processor would have to guess: a row that is not asked for is written
        // over by the next.
        for (row, number) in numbers.iter().enumerate() {
            rows[count] = row as u32;
            let word = self.0[(*number as usize / 64).min(last)];
            count += (word >> (number % 64) & 1) as usize;
        }
        rows.truncate(count);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::NO_KEY;
    use super::*;

    #[test]
    fn the_keys_of_a_time_are_known_and_what_is_no_key_is_not_among_them() {
        // A key a microsecond, the times far apart at both ends.
        let slots = (0..1_000_u32).map(|number| (i64::from(number), number));
        let slots = slots.chain([(i64::MIN, 1_000), (i64::MAX, 1_001)]);
        for slots in [
            slots.clone().take(1_000).collect::<Vec<_>>(),
            slots.collect(),
        ] {
            let asked = Asked::new(&slots.iter().copied(), slots.len());
            let every: Vec<u32> = (0..slots.len() as u32).chain([5_000, NO_KEY]).collect();
            for (first, last) in [(10, 20), (-5, 3), (998, i64::MAX), (i64::MIN, i64::MIN)] {
                let Some(keys) = asked.between(first, last, usize::MAX) else {
                    continue;
                };
                let found = keys.rows(&every);
                assert!(found.iter().all(|row| (*row as usize) < slots.len()));
                for (us, number) in &slots {
                    if (first..=last).contains(us) {
                        assert!(
                            found.contains(number),
                            "{number} between {first} and {last}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn keys_are_only_told_apart_where_it_helps() {
        let slots = (0..1_000_u32).map(|number| (i64::from(number), number));
        let asked = Asked::new(&slots, 1_000);
        assert!(asked.between(0, 999, 1_000).is_none());
        assert!(asked.between(0, 100, 1).is_none());
        let found = asked.between(0, 100, 1_000).unwrap();
        let every: Vec<u32> = (0..1_000).collect();
        assert!(found.rows(&every).len() < 200);
        let none = Asked::new(&std::iter::empty(), 0);
        let found = none.between(0, 1, 10).unwrap();
        assert!(found.rows(&[0, 1, NO_KEY]).is_empty());
    }
}
