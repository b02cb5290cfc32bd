//! Spans that a job sends by OTLP to an external server.

use std::collections::BTreeSet;

use axum::extract::Request;
use axum::response::Response;
use web::Identity;

use super::{External, Kind, Stamp};
use crate::error::Error;
use crate::span::Span;

impl External {
    /// Passes on a request with these spans, once their traces are the job's own or new; what is
    /// new is the job's from then on.
    ///
    /// # Errors
    /// [`Error::NotOwned`] for a trace of others; else as [`forward`](Self::forward).
    pub(crate) async fn log_spans_as_job(
        &self,
        caller: &Identity,
        job_id: &str,
        spans: &[Span],
        request: Request,
    ) -> Result<Response, Error> {
        let traces: BTreeSet<String> = spans.iter().map(Span::mlflow_trace_id).collect();
        for trace_id in &traces {
            self.check_new_trace(caller, trace_id).await?;
        }
        let answered = self.forward(request).await?;
        if answered.status().is_success() {
            for id in traces {
                if self.stamp_of(Kind::Trace, &id).await?.is_none() {
                    let stamp = Stamp {
                        id,
                        job_id: job_id.to_owned(),
                        artifact_uri: None,
                    };
                    self.stamp(Kind::Trace, &stamp).await?;
                }
            }
        }
        Ok(answered)
    }
}
