//! What an import did, kind by kind, and what it had to leave.

use std::collections::BTreeMap;

use serde::Serialize;
use tracking::import::Taken;

/// What became of an import.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Nothing was written: `new` and `here` were not looked at.
    pub(crate) dry_run: bool,
    pub(crate) kinds: Vec<Kind>,
    /// What was not taken, and why.
    pub(crate) left: Vec<Left>,
    #[serde(skip)]
    reasons: BTreeMap<(String, String), u64>,
}

/// One kind of thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
    /// How much the other server has.
    pub(crate) found: u64,
    /// How much of that came with this import.
    pub(crate) new: u64,
    /// How much was here already.
    pub(crate) here: u64,
    pub(crate) left: u64,
}

/// What was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Left {
    pub(crate) what: String,
    pub(crate) count: u64,
    pub(crate) why: String,
}

impl Kind {
    pub(super) fn of(kind: &'static str) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// Adds what became of `found` things.
    pub(super) fn add(&mut self, found: usize, taken: Taken) {
        let found = found as u64;
        self.found += found;
        self.new += taken.new;
        self.left += taken.orphans;
        self.here += found.saturating_sub(taken.new + taken.orphans);
    }

    /// Adds things that were only counted.
    pub(super) fn see(&mut self, found: usize) {
        self.found += found as u64;
    }
}

impl Report {
    /// Nothing done yet.
    pub(super) fn new(dry_run: bool) -> Self {
        Self {
            dry_run,
            ..Self::default()
        }
    }

    /// Adds a kind; what belonged to nothing is told as left.
    pub(super) fn add(&mut self, kind: Kind, orphans: u64) {
        if orphans > 0 {
            self.leave(kind.kind, orphans, "what they belong to was not taken");
        }
        self.kinds.push(kind);
    }

    /// Notes things that were not taken.
    pub(super) fn leave(&mut self, what: &str, count: u64, why: impl Into<String>) {
        if count > 0 {
            *self
                .reasons
                .entry((what.to_owned(), why.into()))
                .or_default() += count;
        }
    }

    /// Lists what was left.
    pub(super) fn finish(mut self) -> Self {
        let reasons = std::mem::take(&mut self.reasons);
        let left = |((what, why), count)| Left { what, count, why };
        self.left = reasons.into_iter().map(left).collect();
        self
    }
}
