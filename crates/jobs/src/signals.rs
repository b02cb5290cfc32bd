//! Waking those who follow a job when something of it changed.
//!
//! The database is the truth; a signal only says that reading it again is worth while. Followers
//! on another server see no signal and look again from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The followers of jobs; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    jobs: Arc<Mutex<HashMap<String, watch::Sender<u64>>>>,
}

impl Signals {
    /// Follows a job: the receiver changes when its log, phase, progress or state did.
    pub(crate) fn follow(&self, job_id: &str) -> watch::Receiver<u64> {
        let mut jobs = self.lock();
        // Those whose followers left after the last change.
        jobs.retain(|_, sender| sender.receiver_count() > 0);
        jobs.entry(job_id.to_owned())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// Tells the followers of a job that it changed.
    pub(crate) fn notify(&self, job_id: &str) {
        let mut jobs = self.lock();
        if let Some(sender) = jobs.get(job_id) {
            if sender.receiver_count() == 0 {
                jobs.remove(job_id);
            } else {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
