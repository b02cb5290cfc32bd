//! The routes of tracking.

mod artifacts;
mod assessments;
mod datasets;
mod download;
mod evaluation_datasets;
mod evaluation_records;
mod experiments;
mod external;
mod histories;
mod log;
mod logged_models;
mod multipart;
mod otlp;
mod page;
mod presigned;
mod prompt_runs;
mod run_json;
mod run_page;
mod runs;
mod scorers;
mod server;
mod trace_links;
mod trace_spans;
mod traces;
mod traces_v2;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use web::{Routes, Style};

use crate::Tracking;
use crate::wire::under_both_prefixes;

pub use download::download;

/// MLflow's tracking routes.
pub fn routes(tracking: Tracking) -> Routes {
    match tracking.external() {
        Some(_) => external::routes(tracking.clone(), embedded(tracking).table()),
        None => embedded(tracking),
    }
}

fn embedded(tracking: Tracking) -> Routes {
    let routes = under_both_prefixes(Routes::new(Style::Mlflow), |routes, prefix| {
        let routes = experiments::add(routes, prefix);
        let routes = runs::add(routes, prefix);
        let routes = prompt_runs::add(routes, prefix);
        let routes = log::add(routes, prefix);
        let routes = histories::add(routes, prefix);
        let routes = datasets::add(routes, prefix);
        let routes = evaluation_datasets::add(routes, prefix);
        let routes = evaluation_records::add(routes, prefix);
        let routes = scorers::add(routes, prefix);
        let routes = traces::add(routes, prefix);
        let routes = trace_spans::add(routes, prefix);
        let routes = trace_links::add(routes, prefix);
        let routes = assessments::add(routes, prefix);
        let routes = traces_v2::add(routes, prefix);
        let routes = server::add(routes, prefix);
        let routes = page::add(routes, prefix);
        let routes = artifacts::add(routes, prefix);
        let routes = multipart::add(routes, prefix);
        let routes = presigned::add(routes, prefix);
        logged_models::add(routes, prefix)
    });
    let routes = otlp::add(routes);
    artifacts::add_bare(routes).with_state(tracking)
}

/// An answer whose JSON is written already.
fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
