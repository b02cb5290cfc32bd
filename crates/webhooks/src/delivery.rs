//! Deliveries: an event on its way to one webhook.

use db::Conn;
use serde_json::{Value, json};
use web::Timestamp;

use crate::Webhooks;
use crate::error::Error;
use crate::event::Event;
use crate::store::{deliveries, webhooks};

/// The longest wait between two attempts, in milliseconds.
const MAX_WAIT_MS: i64 = 3_600_000;

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is tried now or later.
    Waiting,
    Delivered,
    Failed,
}

/// An event on its way to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub delivery_id: String,
    pub webhook_id: String,
    /// `entity.action`.
    pub event: String,
    /// What is sent: JSON, the same bytes at every attempt.
    pub body: String,
    pub state: State,
    pub attempts: i64,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds; while it waits.
    pub next_attempt_at: i64,
    /// Epoch milliseconds.
    pub ended_at: Option<i64>,
    /// The HTTP status of the last answer.
    pub response_status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "delivered" => Self::Delivered,
            "failed" => Self::Failed,
            _ => Self::Waiting,
        }
    }
}

/// What is sent of an event (`mlflow/webhooks/delivery.py`).
pub(crate) fn body(event: &Event, now: i64, data: &Value) -> String {
    json!({
        "entity": event.entity,
        "action": event.action,
        "timestamp": Timestamp(now),
        "data": data,
    })
    .to_string()
}

/// A random UUID.
pub(crate) fn new_id() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(parts.join("-"))
}

/// How long the attempt after this many waits, in milliseconds.
pub(crate) fn wait_ms(attempts: i64, backoff_ms: u64) -> i64 {
    let doubled = 1_i64 << (attempts - 1).clamp(0, 30);
    let backoff = i64::try_from(backoff_ms).unwrap_or(MAX_WAIT_MS);
    backoff.saturating_mul(doubled).min(MAX_WAIT_MS)
}

impl Webhooks {
    /// Notes an event for every webhook that wants it, in the transaction that made it happen.
    /// After the commit, [`wake`](Self::wake) sends it at once.
    pub async fn record(&self, conn: &mut Conn, event: Event, data: &Value) -> Result<(), Error> {
        let now = Timestamp::now().0;
        let listeners = webhooks::listeners(conn, &event).await?;
        for webhook_id in listeners {
            let delivery = Delivery {
                delivery_id: new_id()?,
                webhook_id,
                event: event.name(),
                body: body(&event, now, data),
                state: State::Waiting,
                attempts: 0,
                created_at: now,
                next_attempt_at: now,
                ended_at: None,
                response_status: None,
                error: None,
            };
            deliveries::insert(conn, &delivery).await?;
        }
        Ok(())
    }

    /// Tells the worker that something may have come.
    pub fn wake(&self) {
        self.arrived.notify_one();
    }

    /// The deliveries of a webhook, the newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a webhook that is not there.
    pub async fn deliveries(&self, webhook_id: &str, limit: i64) -> Result<Vec<Delivery>, Error> {
        let mut conn = self.db.acquire().await?;
        if webhooks::find(&mut conn, webhook_id).await?.is_none() {
            return Err(Error::NotFound(webhook_id.to_owned()));
        }
        Ok(deliveries::list(&mut conn, webhook_id, limit.clamp(1, 1_000)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        let waits: Vec<i64> = (1..=4).map(|n| wait_ms(n, 1_000)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(wait_ms(60, 1_000), MAX_WAIT_MS);
        assert_eq!(wait_ms(60, u64::MAX), MAX_WAIT_MS);
    }

    #[test]
    fn ids_are_uuids() {
        let id = new_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
    }
}
