//! Points that clients send again: hardly ever, but many at once when a server is slow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long after one point was sent again others are looked for.
const LASTS: Duration = Duration::from_secs(10);

/// When a point came last that was there already; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Resends(Arc<Mutex<Option<Instant>>>);

impl Resends {
    /// Notes that a point came that was there already.
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether more such points are likely to come.
    pub(crate) fn go_on(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < LASTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_point_that_was_sent_again_is_told_to_all() {
        let resends = Resends::default();
        let other = resends.clone();
        assert!(!other.go_on());
        resends.note();
        assert!(other.go_on());
    }
}
