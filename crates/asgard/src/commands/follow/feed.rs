//! A stream of the server's events that is opened again when it breaks.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::client::{Client, Event, Events};
use crate::failure::{Exit, Failure};

/// How often a broken stream is opened again before the command gives up: for half a minute,
/// which a restart of the server may take.
const RECONNECTS: u32 = 14;

/// How much longer each attempt waits.
const RECONNECT_STEP: Duration = Duration::from_millis(300);

/// How long nothing must come for what belongs together to have come.
const SETTLE: Duration = Duration::from_millis(150);

/// What comes of a stream.
pub(super) enum Heard {
    Event(Event),
    /// Nothing for a moment.
    Quiet,
    /// The stream broke; it is opened again.
    Lost,
}

/// The events of one address.
pub(super) struct Feed<'c> {
    client: &'c Client,
    path: String,
    last_id: String,
    open: Option<Events>,
    /// How often it broke since the last event.
    broken: u32,
}

impl<'c> Feed<'c> {
    /// The events after a place.
    pub(super) fn new(client: &'c Client, path: String, after: i64) -> Self {
        Self {
            client,
            path,
            last_id: after.to_string(),
            open: None,
            broken: 0,
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// When the server refuses, or does not answer for half a minute.
    pub(super) async fn next(&mut self) -> Result<Heard, Failure> {
        loop {
            let Some(events) = &mut self.open else {
                if self.open().await? {
                    return Ok(Heard::Lost);
                }
                continue;
            };
            match timeout(SETTLE, events.next()).await {
                Err(_) => return Ok(Heard::Quiet),
                Ok(None) => {
                    self.open = None;
                    self.broken += 1;
                    if self.broken > RECONNECTS {
                        return Err(self.given_up());
                    }
                    if self.broken == 1 {
                        return Ok(Heard::Lost);
                    }
                }
                Ok(Some(event)) => {
                    self.broken = 0;
                    if let Some(id) = &event.id {
                        self.last_id.clone_from(id);
                    }
                    return Ok(Heard::Event(event));
                }
            }
        }
    }

    /// Opens the stream, after a pause when it broke; true when it cannot be for the first time.
    async fn open(&mut self) -> Result<bool, Failure> {
        sleep(RECONNECT_STEP * self.broken).await;
        match self.client.events(&self.path, &self.last_id).await {
            Ok(events) => self.open = Some(events),
            // Not there, not allowed: asking again would not help.
            Err(failure) if failure.exit != Exit::Unreachable => return Err(failure),
            Err(failure) if self.broken >= RECONNECTS => return Err(failure),
            Err(_) => {
                self.broken += 1;
                return Ok(self.broken == 1);
            }
        }
        Ok(false)
    }

    fn given_up(&self) -> Failure {
        let (path, url) = (&self.path, self.client.url());
        let message = format!("{path} cannot be followed: {url} ends it each time");
        Failure::new(Exit::Unreachable, message)
    }
}
