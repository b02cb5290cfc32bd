//! The variables of jobs at rest: sealed, as their values may be secrets.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::job::{Job, JobRequest};
use crate::{Jobs, store};

/// How many jobs of earlier versions are sealed in one transaction.
const AT_ONCE: i64 = 200;

/// What a job's variables are sealed for.
fn owner(job_id: &str) -> String {
    format!("job {job_id}")
}

impl Jobs {
    /// Seals the variables of a job, if it has any and every server that may run it can open them.
    pub(crate) fn seal_variables(
        &self,
        job_id: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<Option<String>, Error> {
        if variables.is_empty() || !self.inner.parts.seal.is_common() {
            return Ok(None);
        }
        let text = serde_json::Value::from_iter(variables.clone()).to_string();
        Ok(Some(self.inner.parts.seal.seal(&owner(job_id), &text)?))
    }

    /// What tells whether two requests are the same, without telling what their variables are.
    pub(crate) fn digest_of(&self, request: &JobRequest, hash: &str) -> String {
        let seal = &self.inner.parts.seal;
        match request.environment_vars.is_empty() || !seal.is_common() {
            true => hash.to_owned(),
            false => seal.digest(hash),
        }
    }

    /// A job with its variables. Where they were sealed with another key they stay as they are, and
    /// the job does not run.
    pub(crate) fn opened(&self, mut job: Job) -> Job {
        let Some(sealed) = job.sealed_variables.take() else {
            return job;
        };
        let text = self.inner.parts.seal.unseal(&owner(&job.job_id), &sealed);
        let read = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        match read {
            Some(variables) => job.request.environment_vars = variables,
            None => job.sealed_variables = Some(sealed),
        }
        job
    }

    /// Seals the variables that an earlier version left as they were.
    ///
    /// # Errors
    /// When the database fails; what was sealed before stays so.
    pub async fn seal_plain_variables(&self) -> Result<(), Error> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let mut tx = self.db().begin().await?;
            let plain = store::jobs::list_plain(&mut tx, &after, AT_ONCE).await?;
            let Some(last) = plain.last() else { break };
            after.clone_from(&last.job_id);
            for row in &plain {
                // What this version cannot read is left to the one that can.
                let Ok(request) = serde_json::from_str::<JobRequest>(&row.request) else {
                    continue;
                };
                let sealed = self.seal_variables(&row.job_id, &request.environment_vars)?;
                let hash = self.digest_of(&request, &row.request_hash);
                count += usize::from(sealed.is_some());
                store::jobs::seal(&mut tx, &row.job_id, &request, sealed.as_deref(), &hash).await?;
            }
            tx.commit().await?;
        }
        if count > 0 {
            tracing::info!(count, "the variables of jobs were sealed");
        }
        Ok(())
    }
}
