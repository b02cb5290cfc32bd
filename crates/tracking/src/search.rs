//! What the words of searches for runs, experiments and traces mean; their grammar is in [`crate::filter`].

pub(crate) mod experiments;
pub(crate) mod runs;
pub(crate) mod traces;
