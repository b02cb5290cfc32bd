//! The variables of jobs at rest: sealed, as their values may be secrets.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::job::{Job, JobRequest};
use crate::store::jobs::PlainRow;
use crate::{Jobs, store};

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
        let seal = &self.inner.parts.seal;
        Ok(seal.seal_variables(&owner(job_id), variables)?)
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
        let seal = &self.inner.parts.seal;
        match seal.open_variables(&owner(&job.job_id), &sealed) {
            Ok(variables) => job.request.environment_vars = variables,
            Err(_) => job.sealed_variables = Some(sealed),
        }
        job
    }

    /// Seals the variables that an earlier version left as they were.
    ///
    /// # Errors
    /// When the database fails; what was sealed before stays so.
    pub async fn seal_plain_variables(&self) -> Result<(), Error> {
        let list = store::jobs::list_plain;
        let seal = async |conn: &mut db::Conn, row: PlainRow| self.seal_row(conn, &row).await;
        let count = db::seal_plain(self.db(), list, |row| &row.job_id, seal).await?;
        if count > 0 {
            tracing::info!(count, "the variables of jobs were sealed");
        }
        Ok(())
    }

    /// Seals the variables of a row, unless this version cannot read it: it is left to the one that can.
    async fn seal_row(&self, conn: &mut db::Conn, row: &PlainRow) -> Result<bool, Error> {
        let Ok(request) = serde_json::from_str::<JobRequest>(&row.request) else {
            return Ok(false);
        };
        let sealed = self.seal_variables(&row.job_id, &request.environment_vars)?;
        let hash = self.digest_of(&request, &row.request_hash);
        store::jobs::seal(conn, &row.job_id, &request, sealed.as_deref(), &hash).await?;
        Ok(sealed.is_some())
    }
}
