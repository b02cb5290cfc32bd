//! Webhooks: made, read, changed, deleted.

use tracking::page;
use web::Timestamp;

use crate::Webhooks;
use crate::destination;
use crate::error::Error;
use crate::event::Event;
use crate::store::webhooks;

/// The longest description and secret, in characters (`SqlWebhook`).
const MAX_DESCRIPTION_CHARS: usize = 1_000;
const MAX_SECRET_CHARS: usize = 1_000;

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 63;

/// The most webhooks on a page.
const MAX_PAGE: i64 = 1_000;

/// Whether a webhook is told of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    #[default]
    Active,
    Disabled,
}

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub webhook_id: String,
    pub name: String,
    pub description: Option<String>,
    pub url: String,
    pub status: Status,
    pub events: Vec<Event>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
}

/// What a new webhook is made of.
#[derive(Debug, Clone, Default)]
pub struct NewWebhook {
    pub name: String,
    pub description: Option<String>,
    pub url: String,
    /// What deliveries are signed with; it never comes back.
    pub secret: Option<String>,
    pub status: Status,
    pub events: Vec<Event>,
}

/// Changes to a webhook; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct WebhookUpdate {
    pub name: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    pub secret: Option<String>,
    pub status: Option<Status>,
    pub events: Option<Vec<Event>>,
}

impl Status {
    /// MLflow's word (`webhooks.proto`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
        }
    }

    /// Reads MLflow's word, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Disabled]
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| plain(b) || b"._-".contains(&b);
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    if ends && name.len() <= MAX_NAME_CHARS && name.bytes().all(inner) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "Webhook name '{name}' is invalid. It must start and end with a lower-case letter or digit, hold at most {MAX_NAME_CHARS} characters, and only lower-case letters, digits, '.', '_' and '-'."
    )))
}

fn check_length(what: &str, text: Option<&String>, most: usize) -> Result<(), Error> {
    if text.is_some_and(|text| text.chars().count() > most) {
        return Err(Error::Invalid(format!(
            "'{what}' exceeds the maximum length of {most} characters"
        )));
    }
    Ok(())
}

fn check_events(events: &[Event], only_jobs: bool) -> Result<(), Error> {
    if only_jobs && events.iter().any(Event::is_mlflows) {
        return Err(Error::Invalid(
            "the MLflow server at tracking.uri tells of models: make that webhook there; here one may be told of job.completed and job.failed".to_owned(),
        ));
    }
    if events.is_empty() {
        return Err(Error::Invalid(
            "Webhook events must be a non-empty list.".to_owned(),
        ));
    }
    Ok(())
}

impl Webhooks {
    /// Makes a webhook.
    ///
    /// # Errors
    /// [`Error::Invalid`], also for a URL that no webhook may have.
    pub async fn create(&self, new: NewWebhook) -> Result<Webhook, Error> {
        check_name(&new.name)?;
        check_events(&new.events, self.only_jobs)?;
        check_length(
            "description",
            new.description.as_ref(),
            MAX_DESCRIPTION_CHARS,
        )?;
        check_length("secret", new.secret.as_ref(), MAX_SECRET_CHARS)?;
        let url = destination::check(&new.url, &self.config)?;
        let now = Timestamp::now().0;
        let mut events = new.events;
        events.sort_unstable();
        events.dedup();
        let webhook = Webhook {
            webhook_id: crate::delivery::new_id()?,
            name: new.name,
            description: new.description.filter(|text| !text.is_empty()),
            url: url.into(),
            status: new.status,
            events,
            created_at: now,
            updated_at: now,
        };
        let sealed = self.seal_if_any(&webhook.webhook_id, new.secret)?;
        let mut tx = self.db.begin().await?;
        webhooks::insert(&mut tx, &webhook, sealed.as_deref()).await?;
        tx.commit().await?;
        tracing::info!(webhook_id = webhook.webhook_id, "a webhook was made");
        Ok(webhook)
    }

    fn seal_if_any(
        &self,
        webhook_id: &str,
        secret: Option<String>,
    ) -> Result<Option<String>, Error> {
        let secret = secret.filter(|secret| !secret.is_empty());
        let sealed = secret.map(|secret| self.seal.seal(webhook_id, &secret));
        Ok(sealed.transpose()?)
    }

    /// Seals the secrets that an earlier version left as they were.
    pub async fn seal_plain_secrets(&self) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let plain = webhooks::plain_secrets(&mut tx).await?;
        for (webhook_id, secret) in &plain {
            let sealed = self.seal.seal(webhook_id, secret)?;
            webhooks::replace_plain_secret(&mut tx, webhook_id, &sealed).await?;
        }
        tx.commit().await?;
        if !plain.is_empty() {
            tracing::info!(count = plain.len(), "the secrets of webhooks were sealed");
        }
        Ok(())
    }

    /// A page of webhooks, the oldest first, and the next page's token.
    pub async fn list(
        &self,
        max_results: Option<i64>,
        page_token: Option<&str>,
    ) -> Result<(Vec<Webhook>, Option<String>), Error> {
        let limit = max_results.unwrap_or(100);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::Invalid(format!(
                "Invalid value {limit} for parameter 'max_results': it must be at least 1 and at most {MAX_PAGE}"
            )));
        }
        let offset = page::offset(page_token)?;
        let mut conn = self.db.acquire().await?;
        let mut found = webhooks::list(&mut conn, limit + 1, offset).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let token = (found.len() > most).then(|| page::token(offset + limit));
        found.truncate(most);
        Ok((found, token))
    }

    /// The webhook with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, webhook_id: &str) -> Result<Webhook, Error> {
        let mut conn = self.db.acquire().await?;
        let found = webhooks::find(&mut conn, webhook_id).await?;
        found.ok_or_else(|| Error::NotFound(webhook_id.to_owned()))
    }

    /// Changes a webhook.
    pub async fn update(&self, webhook_id: &str, update: WebhookUpdate) -> Result<Webhook, Error> {
        let mut tx = self.db.begin().await?;
        let found = webhooks::find(&mut tx, webhook_id).await?;
        let mut webhook = found.ok_or_else(|| Error::NotFound(webhook_id.to_owned()))?;
        check_length(
            "description",
            update.description.as_ref(),
            MAX_DESCRIPTION_CHARS,
        )?;
        check_length("secret", update.secret.as_ref(), MAX_SECRET_CHARS)?;
        if let Some(name) = update.name {
            check_name(&name)?;
            webhook.name = name;
        }
        if let Some(url) = update.url {
            webhook.url = destination::check(&url, &self.config)?.into();
        }
        if let Some(mut events) = update.events {
            check_events(&events, self.only_jobs)?;
            events.sort_unstable();
            events.dedup();
            webhook.events = events;
        }
        webhook.description = update.description.or(webhook.description);
        webhook.status = update.status.unwrap_or(webhook.status);
        webhook.updated_at = Timestamp::now().0;
        let sealed = self.seal_if_any(webhook_id, update.secret)?;
        webhooks::update(&mut tx, &webhook, sealed.as_deref()).await?;
        tx.commit().await?;
        Ok(webhook)
    }

    /// Deletes a webhook; what waits for it is not delivered.
    pub async fn delete(&self, webhook_id: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if webhooks::delete(&mut tx, webhook_id).await? == 0 {
            return Err(Error::NotFound(webhook_id.to_owned()));
        }
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_are_those_of_mlflow() {
        for name in ["a", "my-webhook_1.x", &"a".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a b", "ä", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
