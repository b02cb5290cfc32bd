//! The routes of the feature store: REST, and what the Feast SDK's remote mode calls.

mod arriving;
mod fault;
mod features;
mod flight;
mod form;
mod grpc;
mod historical;
mod incoming;
mod json_answer;
mod leaving;
mod loads;
mod materialize;
mod models;
mod online;
mod parquet_file;
mod registry;
mod repo;
mod spool;
mod stats;
mod status;
mod stream;
mod tables;
mod usage;

use utoipa::OpenApi;
use web::{Routes, Style};

pub use models::training_routes;
pub use repo::feature_store_yaml;
pub use usage::usage_routes;

pub(crate) use incoming::remove_left;
pub(crate) use spool::Spools;

use crate::FeatureStore;

/// All routes of the feature store.
pub fn routes(store: FeatureStore) -> Routes {
    let rest = features::routes(Routes::new(Style::Asgard));
    let rest = historical::routes(rest);
    let rest = online::routes(rest);
    let rest = stats::routes(rest);
    let rest = loads::routes(rest);
    let rest = status::routes(rest);
    let rest = tables::routes(rest);
    let rest = repo::routes(rest);
    let feast = registry::routes(Routes::new(Style::Grpc));
    let feast = flight::routes(feast, store.clone());
    rest.merge(feast).with_state(store)
}

/// The description of the REST routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = features::Api::openapi();
    api.merge(historical::Api::openapi());
    api.merge(loads::Api::openapi());
    api.merge(models::Api::openapi());
    api.merge(online::openapi());
    api.merge(repo::Api::openapi());
    api.merge(stats::Api::openapi());
    api.merge(status::Api::openapi());
    api.merge(tables::Api::openapi());
    api.merge(usage::Api::openapi());
    api
}
