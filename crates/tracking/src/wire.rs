//! Requests and answers of MLflow's routes: protobuf JSON, read leniently but never silently.
//!
//! Clients send int64 as numbers or strings and doubles as numbers or `"NaN"`; unknown fields and
//! unknown enum values are ignored. What does not fit its field is refused (MLflow drops it).

mod fields;
mod query;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use web::{MlflowError, Routes};

use crate::error::Error;

pub use fields::{Choice, Double, Flag, Int, KeyValue, List, pairs, required, required_value};

/// The answer of a handler: JSON, or an error in MLflow's shape.
pub type MlflowResult<T> = Result<axum::Json<T>, MlflowError>;

/// The answer `{}`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Empty {}

/// Adds MLflow's routes under `/api` and, for its web pages, under `/ajax-api`.
pub fn under_both_prefixes<S: Clone + Send + Sync + 'static>(
    routes: Routes<S>,
    add: impl Fn(Routes<S>, &str) -> Routes<S>,
) -> Routes<S> {
    ["/api", "/ajax-api"].into_iter().fold(routes, add)
}

/// The fields of a request: of a JSON body, or of the query string for GET (and for DELETE
/// without a body), where a field that repeats is a list.
#[derive(Debug, Clone, Copy)]
pub struct MlflowRequest<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for MlflowRequest<T> {
    type Rejection = MlflowError;

    async fn from_request(request: Request, state: &S) -> Result<Self, MlflowError> {
        let method = request.method().clone();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if method == Method::GET {
            return Ok(Self(parse_query(&query)?));
        }
        let json = says_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                Error::BodyTooLarge
            } else {
                Error::Body(format!("the body could not be read: {error}"))
            }
        })?;
        if method == Method::DELETE && body.is_empty() {
            return Ok(Self(parse_query(&query)?));
        }
        if !json {
            let message = "Bad Request. Content-Type header is missing or not 'application/json'.";
            return Err(Error::Body(message.to_owned()).into());
        }
        Ok(Self(parse_body(&body)?))
    }
}

fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let essence = value
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// Reads the fields of a JSON body; an empty body has none.
///
/// # Errors
/// [`Error::Body`] for what is not JSON, [`Error::Field`] for a value that does not fit.
pub fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let body = if body.is_empty() { b"{}" } else { body };
    check_text(body)?;
    serde_json::from_slice(body).map_err(|error| explain::<T>(body, &error))
}

/// PostgreSQL text holds no NUL character, so no text of a request may.
fn check_text(body: &[u8]) -> Result<(), Error> {
    let escaped = body.contains(&b'\\') && body.windows(6).any(|w| w == b"\\u0000");
    if escaped && serde_json::from_slice::<Value>(body).is_ok_and(|value| holds_nul(&value)) {
        return Err(nul());
    }
    Ok(())
}

fn nul() -> Error {
    Error::Invalid("a text of the request holds a NUL character".to_owned())
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Says which field was wrong: the slow way, only on failure.
fn explain<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Error {
    let whole = serde_json::from_slice::<Value>(body);
    match whole {
        Err(_) => Error::Body(format!("the body is not valid JSON: {error}")),
        Ok(whole) if !whole.is_object() => Error::Body("the body must be a JSON object".to_owned()),
        Ok(whole) => from_value::<T>(whole).err().unwrap_or_else(|| {
            Error::Invalid(format!("the body does not fit this route: {error}"))
        }),
    }
}

/// Reads the fields of a query string.
///
/// # Errors
/// [`Error::Field`] for a value that does not fit.
pub fn parse_query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let fields = query::fields(text);
    if fields.iter().any(|(_, value)| holds_nul(value)) {
        return Err(nul());
    }
    from_value(Value::Object(fields))
}

fn from_value<T: DeserializeOwned>(whole: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(&whole).map_err(|error| {
        let value = value_at(&whole, error.path()).map_or_else(String::new, Value::to_string);
        let parameter = error.path().to_string();
        Error::field(parameter, value, error.inner().to_string())
    })
}

fn value_at<'v>(whole: &'v Value, path: &Path) -> Option<&'v Value> {
    path.iter().try_fold(whole, |value, segment| match segment {
        Segment::Map { key } => value.get(key),
        Segment::Seq { index } => value.get(index),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

#[cfg(test)]
mod tests;
