//! `/metrics` for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use web::{Permission, Routes, Style};

use crate::server::Metrics;

pub(crate) fn routes(metrics: Metrics) -> Routes {
    Routes::new(Style::Asgard)
        .get("/metrics", Permission::ReadPlatform, scrape)
        .with_state(metrics)
}

/// All metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "platform",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(crate) async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.render())
}
