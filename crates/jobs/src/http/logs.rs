//! Reading a job's log: a part from any byte on, or as it grows.

use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use web::{ApiError, Code, Json, Path, Query, Timestamp};

use crate::Jobs;
use crate::job::Job;
use crate::log::show;

/// When a follower looks again though nothing told it to: the job may run on another server.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let offset = last_event_id(&headers).or(query.offset).unwrap_or(0);
    if offset < 0 {
        return Err(ApiError::new(
            Code::Invalid,
            "an offset is a number of bytes, 0 or more",
        ));
    }
    let job = jobs.get(&job_id).await?;
    if query.follow.unwrap_or(false) || accepts_events(&headers) {
        let events = Sse::new(follow(jobs, job, offset)).keep_alive(KeepAlive::default());
        return Ok(events.into_response());
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

fn accepts_events(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// The events of a job from a byte of its log on, until it ends.
fn follow(
    jobs: Jobs,
    job: Job,
    offset: i64,
) -> impl futures_util::Stream<Item = Result<Event, Infallible>> {
    stream! {
        let job_id = job.job_id;
        let mut changes = jobs.signals().follow(&job_id);
        let mut next = offset;
        let mut told = None;
        loop {
            changes.mark_unchanged();
            // The state is read before the log: what a finished job wrote is all there then.
            let job = match jobs.get(&job_id).await {
                Ok(job) => job,
                Err(error) => {
                    yield Ok(failed(&error));
                    return;
                }
            };
            let state = status_of(&job);
            if told.as_ref() != Some(&state) {
                yield Ok(Event::default().event("status").data(state.to_string()));
                told = Some(state);
            }
            loop {
                let chunks = match jobs.log_chunks(&job_id, next).await {
                    Ok(chunks) => chunks,
                    Err(error) => {
                        yield Ok(failed(&error));
                        return;
                    }
                };
                let mut any = false;
                for chunk in chunks {
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
                    any = true;
                    yield Ok(Event::default().event("log").id(next.to_string()).data(data.to_string()));
                }
                if !any {
                    break;
                }
            }
            if job.status.is_final() {
                yield Ok(Event::default().event("end").data(status_of(&job).to_string()));
                return;
            }
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await {
                changes = jobs.signals().follow(&job_id);
            }
        }
    }
}

fn status_of(job: &Job) -> serde_json::Value {
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

fn failed(error: &crate::Error) -> Event {
    tracing::error!(%error, "following a job failed");
    Event::default()
        .event("error")
        .data(json!({"message": "reading the job failed; connect again to go on"}).to_string())
}
