//! A row of the online store: the newest values that are known about one entity.

use std::sync::Arc;

use super::value;

/// How new a row is: the time of its event, then when it was created; a null is older than any
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) us: i64,
    pub(crate) created: Option<i64>,
}

/// The bytes of a row: time, created (with whether there is one), the number of its layout, values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row(Arc<[u8]>);

const HEAD: usize = 8 + 9 + 4;

impl Row {
    /// Puts a row together; `values` writes them in the order of the layout.
    pub(crate) fn new(stamp: Stamp, layout: u32, values: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + 64);
        bytes.extend(stamp.us.to_le_bytes());
        bytes.push(stamp.created.is_some().into());
        bytes.extend(stamp.created.unwrap_or_default().to_le_bytes());
        bytes.extend(layout.to_le_bytes());
        values(&mut bytes);
        Self(bytes.into())
    }

    /// A row as it was kept.
    pub(crate) fn kept(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= HEAD).then(|| Self(bytes.into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn stamp(&self) -> Stamp {
        stamp(&self.0)
    }

    /// Which list of features its values follow.
    pub(crate) fn layout(&self) -> u32 {
        u32::from_le_bytes(part(&self.0, 17))
    }

    /// The values, one after the other.
    pub(crate) fn values(&self) -> Values<'_> {
        Values(self.0.get(HEAD..).unwrap_or_default())
    }
}

/// How new a kept row is.
pub(crate) fn stamp(bytes: &[u8]) -> Stamp {
    let has_created = bytes.get(8).is_some_and(|flag| *flag != 0);
    Stamp {
        us: i64::from_le_bytes(part(bytes, 0)),
        created: has_created.then(|| i64::from_le_bytes(part(bytes, 9))),
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let part = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    part.unwrap_or([0; N])
}

/// Values of a row.
pub(crate) struct Values<'r>(&'r [u8]);

impl<'r> Iterator for Values<'r> {
    type Item = &'r [u8];

    fn next(&mut self) -> Option<&'r [u8]> {
        let (one, rest) = value::split(self.0)?;
        self.0 = rest;
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let stamp = Stamp {
            us: -5,
            created: Some(9),
        };
        let row = Row::new(stamp, 3, |bytes| {
            value::push_whole(1, bytes);
            value::push_text("x", bytes);
        });
        let row = Row::kept(row.bytes()).unwrap();
        assert_eq!((row.stamp(), row.layout()), (stamp, 3));
        assert_eq!(row.values().count(), 2);
        assert!(Row::kept(b"short").is_none());
    }

    #[test]
    fn of_two_rows_of_the_same_time_the_one_created_later_is_the_newer() {
        let at = |us, created| Stamp { us, created };
        assert!(at(1, None) < at(1, Some(i64::MIN)));
        assert!(at(1, Some(9)) < at(2, None));
    }
}
