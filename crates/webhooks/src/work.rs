//! The worker that sends what waits.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use web::Timestamp;

use crate::Webhooks;
use crate::delivery::{State, wait_ms};
use crate::error::Error;
use crate::send::{Letter, Outcome};
use crate::store::deliveries::{self, Attempt, Claimed};

/// How many deliveries are on their way at once.
const AT_ONCE: usize = 16;

/// How often the table is looked at when nobody in this process has put anything in: another
/// process on the same database may have.
const LOOK: Duration = Duration::from_secs(2);

/// How often ended deliveries are cleared away.
const CLEAR: Duration = Duration::from_secs(3_600);

/// How much longer than one attempt a claimed delivery stays claimed: then its server is dead.
const GRACE_MS: i64 = 5_000;

impl Webhooks {
    /// Sends deliveries until `stop`; what is on its way then is sent again after the next start.
    pub async fn work(self, stop: CancellationToken) {
        let mut on_their_way = JoinSet::new();
        let mut cleared = None::<Instant>;
        while !stop.is_cancelled() {
            let free = AT_ONCE.saturating_sub(on_their_way.len());
            match self.claim(free).await {
                Ok(claimed) => {
                    for delivery in claimed {
                        let this = self.clone();
                        on_their_way.spawn(async move { this.deliver(delivery).await });
                    }
                }
                Err(error) => tracing::warn!(%error, "webhooks cannot be delivered now"),
            }
            if cleared.is_none_or(|at| at.elapsed() >= CLEAR) {
                cleared = Some(Instant::now());
                if let Err(error) = self.clear().await {
                    tracing::warn!(%error, "old webhook deliveries could not be cleared away");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.arrived.notified() => {}
                Some(_) = on_their_way.join_next() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn deliver(&self, delivery: Claimed) {
        let delivery_id = delivery.delivery_id.clone();
        if let Err(error) = self.attempt(delivery).await {
            tracing::warn!(%error, delivery_id, "a webhook was sent, which could not be noted: it will be sent again");
        }
    }

    async fn claim(&self, most: usize) -> Result<Vec<Claimed>, Error> {
        let now = Timestamp::now().0;
        let mut conn = self.db.acquire().await?;
        if most == 0 || !deliveries::is_any_due(&mut conn, now).await? {
            return Ok(Vec::new());
        }
        drop(conn);
        let timeout = i64::try_from(self.config.timeout_ms).unwrap_or_default();
        let until = now + timeout + GRACE_MS;
        let mut tx = self.db.begin().await?;
        let claimed = deliveries::claim(&mut tx, now, until, most as i64).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn attempt(&self, delivery: Claimed) -> Result<(), Error> {
        let outcome = self.send(&delivery).await;
        let now = Timestamp::now().0;
        let over = delivery.attempts >= i64::from(self.config.max_attempts);
        let state = match outcome.is_success() {
            true => State::Delivered,
            false if outcome.again() && !over => State::Waiting,
            false => State::Failed,
        };
        let (status, error, asked_ms) = match outcome {
            Outcome::Answered { status, .. } if state == State::Delivered => {
                (Some(i64::from(status)), None, 0)
            }
            Outcome::Answered {
                status,
                retry_after,
                ..
            } => {
                let asked_ms = i64::try_from(retry_after.unwrap_or_default().min(3_600))
                    .unwrap_or_default()
                    * 1_000;
                (
                    Some(i64::from(status)),
                    Some(format!("the receiver answered {status}")),
                    asked_ms,
                )
            }
            Outcome::Failed { error, .. } => (None, Some(error), 0),
        };
        if state == State::Failed {
            tracing::warn!(
                webhook_id = delivery.webhook_id,
                delivery_id = delivery.delivery_id,
                error,
                "a webhook's delivery failed for good"
            );
        }
        let wait = wait_ms(delivery.attempts, self.config.backoff_ms).max(asked_ms);
        let attempt = Attempt {
            delivery_id: &delivery.delivery_id,
            state,
            next_attempt_at: now + wait,
            ended_at: (state != State::Waiting).then_some(now),
            response_status: status,
            error: error.as_deref(),
        };
        let mut tx = self.db.begin().await?;
        deliveries::end_attempt(&mut tx, &attempt).await?;
        Ok(tx.commit().await?)
    }

    async fn send(&self, delivery: &Claimed) -> Outcome {
        let sealed = delivery.sealed_secret.as_deref();
        let secret = sealed.map(|sealed| self.seal.unseal(&delivery.webhook_id, sealed));
        let secret = match secret.transpose() {
            Ok(secret) => secret,
            // Receivers that check signatures take nothing without one.
            Err(error) => {
                let error = Error::from(error).to_string();
                return Outcome::Failed { error, again: true };
            }
        };
        let letter = Letter {
            url: &delivery.url,
            secret: secret.as_deref(),
            delivery_id: &delivery.delivery_id,
            now: Timestamp::now().0,
            body: &delivery.body,
        };
        self.sender.send(letter).await
    }

    async fn clear(&self) -> Result<(), Error> {
        let kept_ms = i64::from(self.config.keep_days) * 86_400_000;
        let mut tx = self.db.begin().await?;
        deliveries::delete_ended_before(&mut tx, Timestamp::now().0 - kept_ms).await?;
        Ok(tx.commit().await?)
    }

    /// Sends an example of an event to a webhook, once, and tells how it ended. Disabled ones too.
    pub(crate) async fn test(
        &self,
        webhook_id: &str,
        event: Option<crate::Event>,
    ) -> Result<Outcome, Error> {
        let mut conn = self.db.acquire().await?;
        let found = crate::store::webhooks::find(&mut conn, webhook_id).await?;
        let webhook = found.ok_or_else(|| Error::NotFound(webhook_id.to_owned()))?;
        let sealed = crate::store::webhooks::sealed_secret(&mut conn, webhook_id).await?;
        drop(conn);
        let secret = sealed.map(|sealed| self.seal.unseal(webhook_id, &sealed));
        let secret = secret.transpose()?;
        let event = event.or_else(|| webhook.events.first().copied());
        let event = event.unwrap_or(crate::Event::MODEL_CREATED);
        let now = Timestamp::now().0;
        let letter = Letter {
            url: &webhook.url,
            secret: secret.as_deref(),
            delivery_id: &crate::delivery::new_id()?,
            now,
            body: &crate::delivery::body(&event, now, &event.example()),
        };
        Ok(self.sender.send(letter).await)
    }
}
