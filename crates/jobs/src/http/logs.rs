//! Reading a job's log: a part from any byte on, or as it grows.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Code, EventHeaders, Followed, Json, Look, Path, Query, Timestamp};

use crate::Jobs;
use crate::job::Job;
use crate::log::show;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogsQuery {
    /// The byte to read from.
    #[param(default = 0)]
    offset: Option<i64>,
    /// `true` streams the log as it grows, as the header `Accept: text/event-stream` does.
    follow: Option<bool>,
}

/// Part of a log.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrainingJobLogs {
    job_id: String,
    offset: i64,
    /// What to ask for next.
    next_offset: i64,
    logs: String,
    /// The same, in parts that tell who wrote them.
    chunks: Vec<LogChunk>,
    /// Whether the job has ended and this is the last part.
    done: bool,
}

/// A part of a log that one stream wrote.
#[derive(Serialize, ToSchema)]
pub(crate) struct LogChunk {
    offset: i64,
    /// `platform`, `stdout` or `stderr`.
    #[schema(example = "stdout")]
    stream: &'static str,
    at: Timestamp,
    text: String,
}

/// The log of a job from a byte on; with `Accept: text/event-stream` as it grows.
///
/// The events are `log` (its id is the offset to go on from: `Last-Event-ID` resumes), `status`
/// when the job moves on, and `end` with the final state.
#[utoipa::path(
    get,
    path = "/mlops/training/jobs/{job_id}/logs",
    tag = "training",
    params(("job_id" = String, Path), LogsQuery),
    responses((status = 200, body = TrainingJobLogs), (status = 404, description = "No such job"))
)]
pub(super) async fn logs(
    State(jobs): State<Jobs>,
    Path(job_id): Path<String>,
    Query(query): Query<LogsQuery>,
    events: EventHeaders,
) -> Result<Response, ApiError> {
    let offset = events.last_id.or(query.offset).unwrap_or(0);
    if offset < 0 {
        return Err(ApiError::new(
            Code::Invalid,
            "an offset is a number of bytes, 0 or more",
        ));
    }
    let job = jobs.get(&job_id).await?;
    if query.follow.unwrap_or(false) || events.wanted {
        return Ok(web::follow(FollowedJob { jobs, job_id }, offset));
    }
    let ended = job.status.is_final();
    let chunks = jobs.log_chunks(&job_id, offset).await?;
    let excerpt = show(&chunks, offset);
    // A part that was cut by its size is not the last one.
    let done = ended
        && jobs
            .log_chunks(&job_id, excerpt.next)
            .await?
            .iter()
            .all(|c| c.end() <= excerpt.next);
    Ok(Json(TrainingJobLogs {
        job_id,
        offset,
        next_offset: excerpt.next,
        logs: excerpt.text,
        chunks: chunks
            .iter()
            .filter(|chunk| chunk.end() > offset)
            .map(|chunk| LogChunk {
                offset: chunk.start.max(offset),
                stream: chunk.stream.as_str(),
                at: Timestamp(chunk.at),
                text: show(std::slice::from_ref(chunk), chunk.start.max(offset)).text,
            })
            .collect(),
        done,
    })
    .into_response())
}

/// A job whose log is read while it grows.
struct FollowedJob {
    jobs: Jobs,
    job_id: String,
}

impl Followed for FollowedJob {
    async fn look(&self, after: i64) -> Result<Look, ApiError> {
        let job = self.jobs.get(&self.job_id).await?;
        let mut next = after;
        let mut log = Vec::new();
        for chunk in self.jobs.log_chunks(&self.job_id, after).await? {
            if chunk.end() <= next {
                continue;
            }
            let data = json!({
                "offset": chunk.start.max(next),
                "stream": chunk.stream.as_str(),
                "at": Timestamp(chunk.at),
                "text": show(std::slice::from_ref(&chunk), next).text,
            });
            next = chunk.end();
            log.push((next, data));
        }
        Ok(Look {
            status: status_of(&job),
            ended: job.status.is_final(),
            log,
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.jobs.signals().follow(&self.job_id)
    }
}

fn status_of(job: &Job) -> Value {
    json!({
        "job_id": job.job_id,
        "status": job.status,
        "phase": job.phase,
        "reason": job.reason,
        "progress": job.progress,
        "run_id": job.run_id,
        "model_version": job.model_version,
        "error": job.error.as_ref().map(|problem| &problem.message),
    })
}
