//! Refusals as gRPC clients read them: a status and a message in headers (the gRPC over HTTP/2
//! protocol description, "trailers-only").

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use crate::code::Code;
use crate::error::ApiError;

/// The content type of every answer.
pub const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// An answer that is nothing but a refusal. Its HTTP status is the true one: clients look at the
/// gRPC status first.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = error.code().status();
    let message = match error.help_text() {
        Some(help) => format!("{}; {help}", error.message()),
        None => error.message().to_owned(),
    };
    set_grpc_status(response.headers_mut(), error.code().grpc(), &message);
    response
}

/// Writes the headers of a gRPC answer that has no message.
pub fn set_grpc_status(headers: &mut HeaderMap, status: i32, message: &str) {
    headers.insert(header::CONTENT_TYPE, GRPC);
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(text) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert("grpc-message", text);
    }
}

impl Code {
    /// The status code of gRPC.
    pub fn grpc(self) -> i32 {
        match self {
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::Invalid | Self::Unprocessable | Self::UnsupportedMediaType => 3,
            Self::Unauthenticated => 16,
            Self::Forbidden => 7,
            Self::TooLarge | Self::TooMany | Self::InsufficientStorage => 8,
            Self::Conflict => 9,
            Self::NotImplemented => 12,
            Self::Unavailable | Self::BadGateway => 14,
            Self::Internal => 13,
        }
    }
}

/// The encoding of `grpc-message`: all but printable ASCII, and `%` itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_into_a_header() {
        assert_eq!(percent_encoded("50%\nü"), "50%25%0A%C3%BC");
    }
}
