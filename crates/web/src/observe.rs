//! What is written down about every request: one span, one measurement, one line when it ends.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use tracing::{Span, field};

use crate::extract::RequestId;
use crate::identity::Identity;

/// The label of requests that no route matched: their paths are the caller's words, without bound.
const NO_ROUTE: &str = "none";

/// A request while it is answered.
pub(crate) struct Observed {
    method: &'static str,
    route: String,
    started: Instant,
    pub(crate) span: Span,
}

impl Observed {
    pub(crate) fn begin(request: &Request, id: &RequestId) -> Self {
        let method = method_label(request.method());
        let route = request
            .extensions()
            .get::<MatchedPath>()
            .map_or(NO_ROUTE, MatchedPath::as_str)
            .to_owned();
        let span = tracing::info_span!(
            "request",
            method,
            path = route,
            request_id = id.as_str(),
            caller = field::Empty,
        );
        Self {
            method,
            route,
            started: Instant::now(),
            span,
        }
    }

    pub(crate) fn caller(span: &Span, identity: &Identity) {
        if !span.is_disabled() {
            span.record("caller", identity.label());
        }
    }

    /// Answers that are as they should be are told at debug level: a training script makes
    /// hundreds of requests.
    pub(crate) fn end(self, response: &Response) {
        let elapsed = self.started.elapsed();
        let status = response.status();
        let (code, ms) = (status.as_u16(), elapsed.as_secs_f64() * 1e3);
        self.span.in_scope(|| match level(status) {
            tracing::Level::WARN => tracing::warn!(status = code, ms, "answered"),
            tracing::Level::INFO => tracing::info!(status = code, ms, "answered"),
            _ => tracing::debug!(status = code, ms, "answered"),
        });
        metrics::histogram!(
            "http_request_duration_seconds",
            "method" => self.method,
            "route" => self.route,
            "status" => status_label(code),
        )
        .record(elapsed.as_secs_f64());
    }
}

fn level(status: StatusCode) -> tracing::Level {
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::Level::WARN
    } else if matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    ) {
        tracing::Level::INFO
    } else {
        tracing::Level::DEBUG
    }
}

/// The method as a label: a caller may make up any other, without bound.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The status as a label, without an allocation for the usual ones.
fn status_label(code: u16) -> metrics::SharedString {
    match code {
        200 => "200".into(),
        201 => "201".into(),
        202 => "202".into(),
        400 => "400".into(),
        404 => "404".into(),
        422 => "422".into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn a_made_up_method_makes_no_label_of_its_own() {
        for (method, label) in [("PATCH", "PATCH"), ("patch", "other"), ("X-7F3A", "other")] {
            let request = Request::builder().method(method).body(Body::empty());
            let id = RequestId::of(&HeaderMap::new());
            assert_eq!(Observed::begin(&request.unwrap(), &id).method, label);
        }
    }
}
