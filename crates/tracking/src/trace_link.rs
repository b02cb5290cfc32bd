//! Links of traces: the runs that show them beside those that they were made in, and the prompt
//! versions that they used.

use crate::Tracking;
use crate::error::Error;
use crate::store::{trace_links, traces};
use crate::{run, trace};

/// The most traces of one request (`MAX_TRACE_LINKS_PER_REQUEST`).
const MAX_TRACES: usize = 100;

/// What a trace is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    Run,
    /// Its id is `NAME/VERSION`.
    Prompt,
}

impl LinkKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Prompt => "prompt",
        }
    }
}

impl Tracking {
    /// Makes a run show traces, also those that are still to come: clients send them in the
    /// background. A job links to its own runs.
    pub(crate) async fn link_traces_to_run(
        &self,
        trace_ids: &[String],
        run_id: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        if trace_ids.len() > MAX_TRACES {
            return Err(Error::Invalid(format!(
                "Cannot link more than {MAX_TRACES} traces to a run in a single request. Provided {} traces.",
                trace_ids.len()
            )));
        }
        for trace_id in trace_ids {
            trace::check_id(trace_id)?;
        }
        let mut tx = self.db.begin().await?;
        run::find_writable(&mut tx, run_id, job_id).await?;
        trace_links::insert(&mut tx, LinkKind::Run, run_id, trace_ids).await?;
        Ok(tx.commit().await?)
    }

    /// Notes which prompt versions, as `NAME/VERSION`, a trace used.
    pub(crate) async fn link_prompts_to_trace(
        &self,
        trace_id: &str,
        prompts: &[String],
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let found = traces::find(&mut tx, trace_id).await?;
        let found = found.ok_or_else(|| trace::not_found(trace_id))?;
        trace::check_owner(&found, job_id)?;
        for prompt in prompts {
            let trace = [trace_id.to_owned()];
            trace_links::insert(&mut tx, LinkKind::Prompt, prompt, &trace).await?;
        }
        Ok(tx.commit().await?)
    }
}
