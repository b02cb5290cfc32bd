//! Extractors whose refusals are asgard's error envelope, and the request's id.

use std::future::Future;

use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::code::Code;
use crate::error::{ApiError, FieldError};
use crate::identity::Identity;
use crate::mistake;

tokio::task_local! {
    static REQUEST_ID: RequestId;
}

/// The id of a request: the caller's `X-Request-Id` when it is a short plain word, else a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let plain = |v: &&str| {
            !v.is_empty()
                && v.len() <= 64
                && v.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let given = headers
            .get("x-request-id")
            .and_then(|v| v.to_str().ok())
            .filter(plain);
        Self(given.map_or_else(|| ulid::Ulid::new().to_string(), str::to_owned))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) async fn with_request_id<T>(id: RequestId, work: impl Future<Output = T>) -> T {
    REQUEST_ID.scope(id, work).await
}

pub(crate) fn current_request_id() -> Option<String> {
    REQUEST_ID.try_with(|id| id.0.clone()).ok()
}

/// A JSON body. Refuses other content types (415: a form of another site could send them),
/// broken JSON (400) and wrong fields (422, naming the field).
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if !is_json(content_type) {
            let got = if content_type.is_empty() {
                "none".to_owned()
            } else {
                format!("{content_type:?}")
            };
            return Err(ApiError::new(
                Code::UnsupportedMediaType,
                format!("the body must be JSON, and say so; its content type is {got}"),
            )
            .help("add the header: curl -H 'Content-Type: application/json' ..."));
        }
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(body_error)?;
        parse_json(&bytes).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn body_error(rejection: axum::extract::rejection::BytesRejection) -> ApiError {
    if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(Code::TooLarge, "the body is larger than this route takes")
    } else {
        ApiError::new(
            Code::Invalid,
            format!("the body could not be read: {rejection}"),
        )
    }
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let inner = error.inner();
        if inner.is_data() {
            let path = error.path().iter().map(ToString::to_string);
            ApiError::fields(vec![mistake::of_field(path, inner)])
        } else {
            ApiError::new(
                Code::Invalid,
                format!("the body is not valid JSON: {inner}"),
            )
            .help("'python3 -m json.tool FILE' shows where a document breaks; curl sends a file by --data @FILE")
        }
    })?;
    deserializer.end().map_err(|error| {
        ApiError::new(
            Code::Invalid,
            format!("the body is not one JSON document: {error}"),
        )
    })?;
    Ok(value)
}

/// The query string.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        check_text(parts.uri.query().unwrap_or_default())?;
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|q| Self(q.0))
            .map_err(|error| query_error(&error.body_text()).into())
    }
}

/// What axum says of a query, `Failed to deserialize query string: NAME: MESSAGE`, by field.
fn query_error(said: &str) -> FieldError {
    let said = said
        .strip_prefix("Failed to deserialize query string: ")
        .unwrap_or(said);
    match said.split_once(": ") {
        Some((name, message)) if !name.contains([' ', '`']) => FieldError::query(name, message),
        _ => FieldError {
            loc: vec!["query".to_owned()],
            msg: said.to_owned(),
            kind: "value_error".to_owned(),
        },
    }
}

/// The parameters of the path.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        check_text(parts.uri.path())?;
        let path =
            <axum::extract::Path<T> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        path.map(|p| Self(p.0))
            .map_err(|error| ApiError::new(Code::Invalid, error.body_text()))
    }
}

/// Refuses a NUL character in a path or query: PostgreSQL's text holds none, so no name has one.
fn check_text(encoded: &str) -> Result<(), ApiError> {
    match encoded.contains("%00") {
        true => Err(ApiError::new(
            Code::Invalid,
            "the address of the request holds a NUL character (%00)",
        )),
        false => Ok(()),
    }
}

/// The caller, as the door found it.
#[derive(Debug, Clone)]
pub struct Caller(pub Identity);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(
            parts
                .extensions
                .get::<Identity>()
                .cloned()
                .unwrap_or(Identity::Anonymous),
        ))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Identity>().cloned().map(Self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Body {
        #[expect(dead_code, reason = "only its parsing is tested")]
        timeout: u32,
    }

    #[test]
    fn a_wrong_field_is_named() {
        let error = parse_json::<Body>(br#"{"timeout": "soon"}"#).unwrap_err();
        assert_eq!(error.code(), Code::Unprocessable);
        assert!(
            error.message().starts_with("timeout: "),
            "{}",
            error.message()
        );
    }

    #[test]
    fn a_wrong_parameter_of_the_query_is_named_and_said_once() {
        let error = query_error("Failed to deserialize query string: limit: invalid digit");
        assert_eq!(error.loc, ["query", "limit"]);
        assert_eq!(ApiError::from(error).message(), "limit: invalid digit");
        let error = ApiError::from(query_error(
            "Failed to deserialize query string: missing field `path`",
        ));
        assert_eq!(error.message(), "missing field `path`");
    }

    #[tokio::test]
    async fn no_name_in_an_address_holds_a_nul_character() {
        let parts = |uri: &str| {
            axum::http::Request::get(uri)
                .body(())
                .unwrap()
                .into_parts()
                .0
        };
        for (uri, code) in [("/x?a=1%002", Some(Code::Invalid)), ("/x?a=%2500", None)] {
            let mut parts = parts(uri);
            let query = Query::<Vec<(String, String)>>::from_request_parts(&mut parts, &());
            assert_eq!(query.await.err().map(|error| error.code()), code, "{uri}");
        }
        let path = Path::<String>::from_request_parts(&mut parts("/x%00"), &()).await;
        let error = path.err().unwrap();
        assert!(error.message().contains("NUL"), "{}", error.message());
    }

    #[test]
    fn broken_json_is_the_callers_mistake() {
        assert_eq!(parse_json::<Body>(b"{").unwrap_err().code(), Code::Invalid);
        assert_eq!(
            parse_json::<Body>(br#"{"timeout":1} x"#)
                .unwrap_err()
                .code(),
            Code::Invalid
        );
    }

    #[test]
    fn only_json_content_types_are_json() {
        assert!(is_json("application/json; charset=utf-8") && is_json("application/problem+json"));
        assert!(
            !is_json("text/plain") && !is_json("application/x-www-form-urlencoded") && !is_json("")
        );
    }
}
