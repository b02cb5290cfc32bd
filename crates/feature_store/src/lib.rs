#![cfg(feature = "engine")]
//! The feature store: definitions of entities and feature views, point-in-time reads of Iceberg
//! tables, and the protocols of the Feast SDK's remote mode.
//!
//! Definitions live in asgard's database as the protobuf bytes that came, so that clients of
//! other Feast versions find what they wrote. Tables are read through their Iceberg metadata,
//! never by listing files. A read never drops, merges or reorders the caller's rows.

mod answers;
mod catalog;
mod config;
mod cores;
mod data_file;
mod definition;
mod dtype;
mod error;
mod feature_view;
mod historical;
mod history;
mod http;
mod import;
mod json;
mod memory;
mod migrations;
mod offline;
mod on_demand;
mod online;
mod proto;
mod registry;
mod stats;
mod store;
mod stream;
mod table;
mod training;
mod unfinished;

pub use catalog::{CatalogConfig, CatalogKind, Catalogs};
pub use config::{Config, OnDemandConfig, OnlineStore};
pub use definition::NewFeatureView;
pub use dtype::{Dtype, Scalar};
pub use error::{Error, Kind};
pub use feature_view::{Feature, FeatureView, Source};
pub use historical::{
    EntityRows, EntityTable, FeatureRef, Historical, HistoricalRange, HistoricalRequest,
    RangeRequest, ViewUse, Views,
};
pub use history::{DescribeJobs, JobResult};
pub use http::{feature_store_yaml, openapi, routes, training_routes, usage_routes};
pub use import::{FileFormat, Imported};
pub use migrations::MIGRATIONS;
pub use on_demand::{OnDemandUse, OnDemandView};
pub use online::{
    Columns, Destination, Materialized, Mode, OnlineAnswer, OnlineColumn, OnlineColumns,
    OnlineRequest, Span, Written, copy_online,
};
pub use registry::{Counts, Defined, PROJECT};
pub use table::{Column, TableRef, columns};
pub use training::{SubmitScript, SubmittedScript};

use std::path::Path;

use db::Db;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The feature store; cheap to clone.
#[derive(Clone)]
pub struct FeatureStore {
    db: Db,
    catalogs: Catalogs,
    online: online::Online,
    enforce_ttl: bool,
    import_limit_bytes: u64,
    transforms: on_demand::Transforms,
    noted: history::Noted,
    uploads: offline::Uploads,
    answers: answers::Answers,
    /// Rows in JSON, once they are read.
    requests: answers::Answers,
    spools: http::Spools,
    /// Loads that go on after their answer, and answers on their way.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl FeatureStore {
    /// A feature store on an open, migrated database. Catalogs are opened when first used.
    ///
    /// # Errors
    /// When the settings ask for what the database cannot do.
    pub fn new(db: Db, config: &Config, data_dir: &Path) -> Result<Self, Error> {
        if config.online == OnlineStore::Postgres && db.backend() != db::Backend::Postgres {
            return Err(Error::Invalid(
                "feature_store.online = \"postgres\" needs a PostgreSQL database: set database.url, or leave it at \"local\""
                    .to_owned(),
            ));
        }
        for (name, catalog) in &config.catalogs {
            catalog.check(name, &config.aws)?;
        }
        let shared = match (config.online, &config.redis_url) {
            (OnlineStore::Local, _) => None,
            (OnlineStore::Postgres, _) => Some(online::Shared::Database(db.clone())),
            (OnlineStore::Redis, Some(url)) => {
                Some(online::Shared::Redis(online::Redis::new(url, config)?))
            }
            (OnlineStore::Redis, None) => {
                return Err(Error::Invalid(
                    "feature_store.online = \"redis\" needs feature_store.redis_url: give redis://HOST:PORT"
                        .to_owned(),
                ));
            }
        };
        let catalogs = Catalogs::new(config, data_dir);
        Ok(Self {
            db,
            spools: http::Spools::new(catalogs.scratch()),
            catalogs,
            online: online::Online::new(data_dir, shared),
            enforce_ttl: config.enforce_ttl,
            import_limit_bytes: config
                .import_limit_bytes
                .unwrap_or(config::IMPORT_LIMIT_BYTES),
            transforms: on_demand::Transforms::new(None, &config.on_demand, data_dir),
            noted: history::Noted::default(),
            uploads: offline::Uploads::default(),
            answers: answers::Answers::default(),
            requests: answers::Answers::of_requests(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Has the functions of on-demand feature views run in this sandbox.
    #[must_use]
    pub fn with_python(
        self,
        environments: environments::Environments,
        sandbox: sandbox::Sandbox,
        config: &Config,
        data_dir: &Path,
    ) -> Self {
        let python = Some((environments, sandbox));
        Self {
            transforms: on_demand::Transforms::new(python, &config.on_demand, data_dir),
            ..self
        }
    }

    /// Stops workers that nobody needs, drops uploads that nobody asks for, removes tables that were
    /// replaced, until `shutdown`, then ends what goes on beside requests.
    pub async fn work(self, shutdown: CancellationToken) {
        let mut minutes = tokio::time::interval(std::time::Duration::from_secs(60));
        for minute in 0_u64.. {
            if shutdown.run_until_cancelled(minutes.tick()).await.is_none() {
                break;
            }
            let at_start = minute == 0;
            if at_start {
                self.transforms.remove_left().await;
            }
            self.transforms.rest();
            self.uploads.forget_old();
            if minute % 10 == 0 {
                http::remove_left(self.catalogs.scratch()).await;
                let now = web::Timestamp::now().0;
                let removing = self.catalogs.remove_set_aside(now);
                shutdown.run_until_cancelled(removing).await;
            }
            if let Err(error) = self.fail_left_loads(at_start).await {
                tracing::warn!(error = %error.message(), "looking for loads that were left failed");
            }
        }
        self.transforms.stop();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The Iceberg catalogs.
    pub fn catalogs(&self) -> &Catalogs {
        &self.catalogs
    }
}
