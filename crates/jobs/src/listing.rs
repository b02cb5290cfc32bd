//! Which jobs a list shows.

use crate::job::Status;

/// What the jobs of a list have in common; empty: all jobs.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub experiment_name: Option<String>,
    pub model_name: Option<String>,
    /// Part of the script's, experiment's or model's name, in any case.
    pub text: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    pub limit: i64,
    /// The last job of the page before.
    pub before: Option<String>,
}
