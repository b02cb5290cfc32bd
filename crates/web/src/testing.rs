//! Requests for tests: straight through a router, without a network.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::identity::Identity;

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The JSON of an answer that must have this status.
    ///
    /// # Panics
    /// When it has another.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json()
    }

    /// The JSON of an answer that must be good.
    ///
    /// # Panics
    /// When it is a refusal.
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self.json()
    }

    /// The status and MLflow's error code.
    ///
    /// # Panics
    /// When the body has none.
    pub fn error(&self) -> (u16, String) {
        let code = self.json()["error_code"].as_str().map(str::to_owned);
        let code = code.unwrap_or_else(|| panic!("no error of MLflow: {}", self.text()));
        (self.status.as_u16(), code)
    }

    /// The text of a header.
    ///
    /// # Panics
    /// When it is not there.
    pub fn header(&self, name: header::HeaderName) -> &str {
        let value = self.headers.get(&name).and_then(|v| v.to_str().ok());
        value.unwrap_or_else(|| panic!("no header {name}"))
    }
}

/// A request as a client on this machine sends it, with JSON if there is a body.
///
/// # Panics
/// When `path` is no path.
pub fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    let request = match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    request.expect("a path and plain headers")
}

/// Sends a request through routes and their door, if they have one.
///
/// # Panics
/// When the body of the answer breaks off.
pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let Ok(response) = router.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.expect("a whole body"),
    }
}

/// Sends a request through routes without a door, as that caller.
///
/// # Panics
/// When the body of the answer breaks off.
pub async fn send_as(router: &Router, caller: Identity, mut request: Request<Body>) -> Answer {
    request.extensions_mut().insert(caller);
    send(router, request).await
}
