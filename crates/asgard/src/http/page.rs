//! The page at `/`: what this is and where to go.

use axum::http::header;
use axum::response::IntoResponse;
use web::{Permission, Routes, Style};

const PAGE: &str = include_str!("page.html");

/// The page needs nothing but its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

pub(crate) fn routes() -> Routes {
    Routes::new(Style::Asgard).get("/", Permission::Public, page)
}

/// A page that says what this is and where to go.
#[utoipa::path(get, path = "/", tag = "platform",
    responses((status = 200, body = String, content_type = "text/html")))]
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, PAGE)
}
