//! One attempt: signed, to a good address, without following redirects.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use reqwest::redirect::Policy;
use sha2::Sha256;

use crate::config::Config;
use crate::destination::{self, Guard};

/// How much of an answer's body is kept for a test's result.
const BODY_BYTES: usize = 64 * 1024;

/// Sends deliveries; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    /// Made when the first delivery needs it: reading the system's certificates takes a while.
    client: Arc<OnceLock<reqwest::Client>>,
    config: Config,
}

/// What is sent, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter<'a> {
    pub(crate) url: &'a str,
    pub(crate) secret: Option<&'a str>,
    pub(crate) delivery_id: &'a str,
    /// Epoch milliseconds of this attempt.
    pub(crate) now: i64,
    pub(crate) body: &'a str,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered {
        status: u16,
        body: String,
        /// How long the receiver asked to wait, in seconds.
        retry_after: Option<u64>,
    },
    /// No answer came; whether another attempt may help.
    Failed { error: String, again: bool },
}

impl Outcome {
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Answered { status, .. } if (200..300).contains(status))
    }

    /// Whether another attempt may help, as MLflow decides it.
    pub(crate) fn again(&self) -> bool {
        match self {
            Self::Answered { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            Self::Failed { again, .. } => *again,
        }
    }
}

impl Sender {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            client: Arc::default(),
            config: config.clone(),
        }
    }

    /// Sends a letter and waits for the answer.
    pub(crate) async fn send(&self, letter: Letter<'_>) -> Outcome {
        let refused = |error: String| Outcome::Failed {
            error,
            again: false,
        };
        // The configuration may have changed since the webhook was made.
        let url = match destination::check(letter.url, &self.config) {
            Ok(url) => url,
            Err(error) => return refused(error.to_string()),
        };
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return refused(chain(&error)),
        };
        let timestamp = (letter.now / 1_000).to_string();
        let mut request = client
            .post(url)
            .header("content-type", "application/json")
            .header("x-mlflow-delivery-id", letter.delivery_id)
            .header("x-mlflow-timestamp", &timestamp)
            .body(letter.body.to_owned());
        if let Some(secret) = letter.secret {
            let signature = sign(secret, letter.delivery_id, &timestamp, letter.body);
            request = request.header("x-mlflow-signature", signature);
        }
        match request.send().await {
            Ok(answer) => read(answer).await,
            Err(error) => Outcome::Failed {
                error: chain(&error.without_url()),
                again: true,
            },
        }
    }

    fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            // A proxy would resolve the name itself.
            .no_proxy()
            .dns_resolver(Arc::new(Guard {
                allow_private: self.config.allow_private_addresses,
            }))
            // Every attempt looks at the address anew.
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_millis(self.config.timeout_ms))
            .user_agent(concat!("asgard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }
}

async fn read(mut answer: reqwest::Response) -> Outcome {
    let status = answer.status().as_u16();
    let wait = answer.headers().get("retry-after");
    let retry_after = wait.and_then(|v| v.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    while body.len() < BODY_BYTES {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // The status was the answer.
            Err(_) => break,
        }
    }
    body.truncate(BODY_BYTES);
    Outcome::Answered {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
        retry_after,
    }
}

/// `v1,` and the HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64 (`mlflow/webhooks/delivery.py`).
fn sign(secret: &str, delivery_id: &str, timestamp: &str, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{delivery_id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_that_mlflows_receivers_check() {
        // Python: base64(hmac.new(b"secret", b"id.1.{}", sha256).digest())
        assert_eq!(
            sign("secret", "id", "1", "{}"),
            "v1,490pAcC1LQ1k1cOcmH0da199+A88OKCj0Io4WnJlp68="
        );
    }
}
