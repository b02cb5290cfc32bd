//! The numbers about jobs that Prometheus reads.

use crate::job::Job;

/// Counts a job that reached its end.
pub(crate) fn count_end(job: &Job) {
    metrics::counter!("mlops_training_jobs_total", "status" => job.status.as_str()).increment(1);
    if let Some(reason) = job.reason {
        metrics::counter!("mlops_training_jobs_failed_total", "reason" => reason.as_str())
            .increment(1);
    }
    if let Some(seconds) = job.duration_seconds() {
        metrics::histogram!("mlops_training_duration_seconds").record(seconds);
    }
}

/// Sets how many jobs wait and how many run here.
#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of jobs fit a float exactly"
)]
pub(crate) fn gauge_queue(waiting: i64, running: usize) {
    metrics::gauge!("mlops_training_queue_depth").set(waiting as f64);
    metrics::gauge!("mlops_training_jobs_running").set(running as f64);
}
