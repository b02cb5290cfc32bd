//! The header `Idempotency-Key`: the same key from the same caller makes one thing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::code::Code;
use crate::error::ApiError;

/// The key that a request brought, if it brought one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    /// What a key must be.
    pub const RULE: &str = "an idempotency key has 1 to 255 visible characters";

    /// Whether a text may be a key, in a header as in a body.
    pub fn allows(key: &str) -> bool {
        (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        match value.to_str() {
            Ok(key) if Self::allows(key) => Ok(Self(Some(key.to_owned()))),
            _ => {
                let message = format!("the Idempotency-Key header is no key: {}", Self::RULE);
                Err(ApiError::new(Code::Invalid, message))
            }
        }
    }
}
