//! The REST routes of the feature store.

mod features;
mod historical;
mod status;
mod tables;

use utoipa::OpenApi;
use web::{Routes, Style};

use crate::FeatureStore;

/// All routes of the feature store.
pub fn routes(store: FeatureStore) -> Routes {
    let rest = features::routes(Routes::new(Style::Asgard));
    let rest = historical::routes(rest);
    let rest = status::routes(rest);
    let rest = tables::routes(rest);
    rest.with_state(store)
}

/// The description of the REST routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = features::Api::openapi();
    api.merge(historical::Api::openapi());
    api.merge(status::Api::openapi());
    api.merge(tables::Api::openapi());
    api
}
