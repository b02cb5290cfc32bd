#![cfg(feature = "engine")]
//! The feature store: definitions of entities and feature views, point-in-time reads of Iceberg
//! tables, and the protocols of the Feast SDK's remote mode.
//!
//! Definitions live in asgard's database as the protobuf bytes that came, so that clients of
//! other Feast versions find what they wrote. Tables are read through their Iceberg metadata,
//! never by listing files. A read never drops, merges or reorders the caller's rows.

mod catalog;
mod config;
mod definition;
mod dtype;
mod error;
mod feature_view;
mod historical;
mod http;
mod import;
mod json;
mod migrations;
mod offline;
mod online;
mod proto;
mod registry;
mod store;
mod table;
mod training;

pub use catalog::Catalogs;
pub use config::{CatalogConfig, Config};
pub use definition::NewFeatureView;
pub use dtype::{Dtype, Scalar};
pub use error::{Error, Kind};
pub use feature_view::{Feature, FeatureView, Source};
pub use historical::{EntityRows, EntityTable, FeatureRef, Historical, HistoricalRequest, ViewUse};
pub use http::{feature_store_yaml, openapi, routes, training_routes};
pub use import::{FileFormat, Imported};
pub use migrations::MIGRATIONS;
pub use online::{
    Columns, Destination, Materialized, Mode, OnlineColumn, OnlineColumns, OnlineRequest, Span,
    Written,
};
pub use registry::{Counts, Created, PROJECT};
pub use table::{Column, TableRef, columns};
pub use training::{SubmitScript, SubmittedScript};

use std::path::Path;

use db::Db;

/// The feature store; cheap to clone.
#[derive(Clone)]
pub struct FeatureStore {
    db: Db,
    catalogs: Catalogs,
    online: online::Online,
    enforce_ttl: bool,
}

impl FeatureStore {
    /// A feature store on an open, migrated database. Catalogs are opened when first used.
    pub fn new(db: Db, config: &Config, data_dir: &Path) -> Self {
        Self {
            db,
            catalogs: Catalogs::new(config, data_dir),
            online: online::Online::new(data_dir),
            enforce_ttl: config.enforce_ttl,
        }
    }

    /// The Iceberg catalogs.
    pub fn catalogs(&self) -> &Catalogs {
        &self.catalogs
    }
}
