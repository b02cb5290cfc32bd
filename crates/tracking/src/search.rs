//! What the words of searches for runs, experiments, traces and evaluation datasets mean; their grammar is in [`crate::filter`].

pub(crate) mod assessments;
pub(crate) mod evaluation_datasets;
pub(crate) mod experiments;
pub(crate) mod runs;
pub(crate) mod traces;
