//! Following what goes on as server-sent events: where it stands, its log as it grows, its end.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use async_stream::stream;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::ApiError;

/// When a follower looks again though nothing told it to: another server may do the work.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the headers of a request say about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeaders {
    /// `Accept: text/event-stream`.
    pub wanted: bool,
    /// `Last-Event-ID`: where a stream that broke goes on.
    pub last_id: Option<i64>,
}

impl<S: Send + Sync> FromRequestParts<S> for EventHeaders {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = |value: &header::HeaderValue| value.to_str().ok().map(str::to_owned);
        let accept = parts.headers.get(header::ACCEPT).and_then(text);
        let last_id = parts.headers.get("last-event-id").and_then(text);
        Ok(Self {
            wanted: accept.is_some_and(|accept| accept.contains("text/event-stream")),
            last_id: last_id.and_then(|id| id.parse().ok()),
        })
    }
}

/// Something whose log is read while it grows.
pub trait Followed: Send + Sync + 'static {
    /// Reads where it stands, and *then* what its log has after a place: what was written before
    /// the end is all there once the end is seen.
    fn look(&self, after: i64) -> impl Future<Output = Result<Look, ApiError>> + Send;

    /// Changes when looking again is worth while.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What a follower saw.
#[derive(Debug)]
pub struct Look {
    /// The data of the events `status` and `end`.
    pub status: Value,
    pub ended: bool,
    /// The data of the events `log`, each with the place to go on after.
    pub log: Vec<(i64, Value)>,
}

/// Answers with the events of something from a place in its log on: `status` whenever it stands
/// elsewhere, `log`, and `end`, which is the last.
pub fn follow(followed: impl Followed, after: i64) -> Response {
    let events = stream! {
        let mut changes = followed.changes();
        let mut after = after;
        let mut told = None;
        loop {
            changes.mark_unchanged();
            let look = match followed.look(after).await {
                Ok(look) => look,
                Err(error) => {
                    tracing::error!(message = error.message(), "following a log failed");
                    let help = json!({"message": "reading the log failed; connect again to go on"});
                    yield Ok::<_, Infallible>(event("error", &help));
                    return;
                }
            };
            if told.as_ref() != Some(&look.status) {
                yield Ok(event("status", &look.status));
                told = Some(look.status.clone());
            }
            let caught_up = look.log.is_empty();
            for (place, data) in look.log {
                after = place;
                yield Ok(event("log", &data).id(place.to_string()));
            }
            if !caught_up {
                continue;
            }
            if look.ended {
                yield Ok(event("end", &look.status));
                return;
            }
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await {
                changes = followed.changes();
            }
        }
    };
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    events.into_response()
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Stands for something that says these in turn.
    struct Script(Mutex<Vec<Look>>, watch::Sender<u64>);

    impl Followed for Script {
        async fn look(&self, after: i64) -> Result<Look, ApiError> {
            let mut look = self.0.lock().unwrap().remove(0);
            look.log.retain(|(place, _)| *place > after);
            self.1.send_modify(|count| *count += 1);
            Ok(look)
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.1.subscribe()
        }
    }

    fn look(status: &str, ended: bool, log: &[i64]) -> Look {
        Look {
            status: json!(status),
            ended,
            log: log.iter().map(|place| (*place, json!("line"))).collect(),
        }
    }

    #[tokio::test]
    async fn the_end_is_told_after_all_of_the_log() {
        let looks = vec![
            look("runs", false, &[1, 2]),
            look("runs", false, &[]),
            look("done", true, &[3]),
            look("done", true, &[]),
        ];
        let answer = follow(Script(looks.into(), watch::Sender::new(0)), 1);
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
        let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        let events: Vec<&str> = body
            .lines()
            .filter(|line| line.starts_with("event") || line.starts_with("id"))
            .collect();
        let expected = [
            "event: status",
            "event: log",
            "id: 2",
            "event: status",
            "event: log",
            "id: 3",
            "event: end",
        ];
        assert_eq!(events, expected, "{body}");
    }
}
