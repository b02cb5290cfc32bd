//! How long a table may take to arrive, and how much memory it holds meanwhile: what a client sends is
//! counted as it arrives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::error::Error;
use crate::offline::Held;

/// How long a whole table may take to arrive, and how long nothing of it may.
const WHOLE_TIME: Duration = Duration::from_secs(900);
const PART_TIME: Duration = Duration::from_secs(60);

/// An error of a limit, as the status that goes with it.
pub(super) fn status(error: &Error) -> Status {
    let text = match error.help() {
        Some(help) => format!("{error}: {help}"),
        None => error.to_string(),
    };
    Status::resource_exhausted(text)
}

/// The body of a call, whose bytes hold their room before anything is made of them.
pub(super) fn arriving(
    body: Body,
    held: Arc<Held>,
) -> impl Stream<Item = Result<Bytes, Status>> + use<> {
    within(body, held, PART_TIME)
}

fn within(
    body: Body,
    held: Arc<Held>,
    part_time: Duration,
) -> impl Stream<Item = Result<Bytes, Status>> + use<> {
    let end = Instant::now() + WHOLE_TIME;
    let parts = (body.into_data_stream(), 0, held);
    stream::try_unfold(parts, move |(mut parts, before, held)| async move {
        let until = end.min(Instant::now() + part_time);
        let part = timeout_at(until, parts.next()).await.map_err(|_| {
            Status::deadline_exceeded(format!(
                "the table did not arrive in time: {} seconds for the next part, {} for all of it; send smaller tables, or try again",
                PART_TIME.as_secs(),
                WHOLE_TIME.as_secs()
            ))
        })?;
        let Some(part) = part else { return Ok(None) };
        let part = part.map_err(|error| Status::from_error(error.into()))?;
        let bytes = before + part.len();
        held.arrived(bytes).map_err(|error| status(&error))?;
        Ok(Some((part, (parts, bytes, held))))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::offline::Uploads;

    const AT_ONCE: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn what_arrives_is_counted_before_it_is_read() {
        let uploads = Uploads::default();
        let part = Bytes::from(vec![0; 1024 * 1024]);
        let mut unread = Vec::new();
        // Nobody makes anything of these uploads, yet together they have no more than the room.
        let mut arrived = 0;
        let refused = loop {
            let part = part.clone();
            let parts = (0..200).map(move |_| Ok::<_, std::io::Error>(part.clone()));
            let held = uploads.begin();
            let body = Body::from_stream(stream::iter(parts));
            let mut body = Box::pin(arriving(body, held.clone()));
            let ended = loop {
                match body.try_next().await {
                    Ok(Some(part)) => arrived += part.len(),
                    Ok(None) => break None,
                    Err(refused) => break Some(refused),
                }
            };
            unread.push(held);
            if let Some(refused) = ended {
                break refused;
            }
        };
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("try again"), "{refused}");
        assert_eq!(arrived, 1024 * 1024 * 1024);
    }

    #[tokio::test]
    async fn a_table_that_stops_arriving_is_given_up() {
        let part = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"first"))]);
        let body = Body::from_stream(part.chain(stream::pending()));
        let held = Uploads::default().begin();
        let mut body = Box::pin(within(body, held, AT_ONCE));
        assert_eq!(body.try_next().await.unwrap().unwrap(), "first");
        let late = body.try_next().await.unwrap_err();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    }
}
