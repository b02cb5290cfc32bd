//! How long a table may take to arrive, and how much memory it holds meanwhile: what a client sends is
//! counted as it arrives.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{Stream, TryStreamExt as _};
use tonic::Status;

use crate::error::Error;
use crate::http::arriving::{self, PART_TIME, Refused};
use crate::offline::Held;

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
    let count = |held: &Held, bytes| held.arrived(bytes).map_err(Refused::Room);
    arriving::within(body, held, count, part_time).map_err(|refused| match refused {
        Refused::Late(why) => Status::deadline_exceeded(why),
        Refused::Room(error) => status(&error),
        Refused::TooLarge => Status::resource_exhausted("the table is too large"),
        Refused::Broken(error) => Status::from_error(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

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
