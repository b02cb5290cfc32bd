//! What the words of searches for runs and experiments mean; their grammar is in [`crate::filter`].

pub(crate) mod experiments;
pub(crate) mod runs;
