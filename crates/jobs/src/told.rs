//! Telling webhooks that a job has ended, in the transaction that ends it.

use serde_json::json;
use web::Timestamp;
use webhooks::Event;

use crate::Jobs;
use crate::error::Error;
use crate::job::{Reason, Status};
use crate::store;

impl Jobs {
    /// Notes the end of a job for the webhooks that want it.
    pub(crate) async fn tell_end(&self, tx: &mut db::Tx, job_id: &str) -> Result<(), Error> {
        let Some(webhooks) = self.inner.parts.registry.webhooks() else {
            return Ok(());
        };
        let Some(job) = store::jobs::find(tx, job_id).await? else {
            return Ok(());
        };
        let event = match job.status {
            Status::Completed => Event::JOB_COMPLETED,
            _ => Event::JOB_FAILED,
        };
        let data = json!({
            "job_id": job.job_id,
            "status": job.status.as_str(),
            "reason": job.reason.map(Reason::as_str),
            "script_name": job.request.script_name,
            "experiment_name": job.request.experiment_name,
            "model_name": job.request.model_name,
            "model_version": job.model_version,
            "run_id": job.run_id,
            "error": job.error.as_ref().map(|problem| &problem.message),
            "created_at": Timestamp(job.created_at),
            "completed_at": job.completed_at.map(Timestamp),
        });
        Ok(webhooks.record(tx, event, &data).await?)
    }

    /// Has what was noted sent, after the commit.
    pub(crate) fn wake_webhooks(&self) {
        if let Some(webhooks) = self.inner.parts.registry.webhooks() {
            webhooks.wake();
        }
    }
}
