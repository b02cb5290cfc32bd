//! Uploads of jobs that failed: a script may catch the error and go on, and its job tells all the
//! same what is missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::location::Location;

/// How many files of a job are kept in mind.
const FILES: usize = 50;
/// How many jobs are; one asks for its own when it ends.
const JOBS: usize = 1_000;

/// A file that a job could not store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedUpload {
    /// Where it was to be, below the root of all artifacts.
    pub path: String,
    /// What the caller was told.
    pub cause: String,
}

/// The failed uploads of the jobs that run; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FailedUploads(Arc<Mutex<HashMap<String, BTreeMap<String, String>>>>);

impl FailedUploads {
    pub(crate) fn failed(&self, job_id: &str, file: &Location, cause: &dyn std::error::Error) {
        let mut jobs = self.lock();
        if jobs.len() >= JOBS && !jobs.contains_key(job_id) {
            // Of a job that another server ran, or that was lost: nobody asks for it here.
            let forgotten = jobs.keys().next().cloned();
            forgotten.and_then(|id| jobs.remove(&id));
        }
        let files = jobs.entry(job_id.to_owned()).or_default();
        if files.len() < FILES {
            files.insert(file.key().to_owned(), cause.to_string());
        }
    }

    /// Clients try again: what is stored in the end has not failed.
    pub(crate) fn stored(&self, job_id: &str, file: &Location) {
        if let Some(files) = self.lock().get_mut(job_id) {
            files.remove(file.key());
        }
    }

    pub(crate) fn take(&self, job_id: &str) -> Vec<FailedUpload> {
        let files = self.lock().remove(job_id).unwrap_or_default();
        let failed = |(path, cause)| FailedUpload { path, cause };
        files.into_iter().map(failed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
