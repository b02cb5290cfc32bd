//! gRPC calls with one request and one answer, as ordinary routes: a frame in, a frame and
//! trailers out (the gRPC over HTTP/2 protocol description).

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, Full};

use super::fault;
use crate::error::Error;

/// The message in a request's body.
///
/// # Errors
/// When the body is no single uncompressed frame.
pub(super) fn message(body: &Bytes) -> Result<Bytes, Error> {
    let broken = || Error::Invalid("the body is not one uncompressed gRPC message".to_owned());
    let head: [u8; 5] = body
        .get(..5)
        .and_then(|h| h.try_into().ok())
        .ok_or_else(broken)?;
    let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || body.len() != size + 5 {
        return Err(broken());
    }
    Ok(body.slice(5..))
}

/// The response to a call.
pub(super) fn respond(answer: Result<Vec<u8>, Error>) -> Response {
    match answer {
        Ok(message) => {
            let mut frame = Vec::with_capacity(message.len() + 5);
            frame.push(0);
            frame.extend((message.len() as u32).to_be_bytes());
            frame.extend(message);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
            let mut response = Body::new(body).into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, web::GRPC);
            response
        }
        Err(error) => {
            let mut response = Body::empty().into_response();
            let (status, message) = (error.code().grpc(), fault::detail(&error));
            web::set_grpc_status(response.headers_mut(), status, &message);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_lies_about_its_size_is_refused() {
        assert_eq!(
            &*message(&Bytes::from_static(b"\0\0\0\0\x02ab")).unwrap(),
            b"ab"
        );
        for wrong in [&b"\0\0\0\0\x03ab"[..], b"\x01\0\0\0\x02ab", b"\0\0", b""] {
            assert!(message(&Bytes::copy_from_slice(wrong)).is_err());
        }
    }
}
