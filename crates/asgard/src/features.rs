//! The feature store as a part of this server.

use std::path::Path;

use db::Db;
pub use feature_store::{Config, MIGRATIONS, openapi};
use feature_store::{FeatureStore, feature_store_yaml};
use jobs::FeastRepo;
use web::Routes;

/// The feature store; cheap to clone.
#[derive(Clone)]
pub struct Features(FeatureStore);

impl Features {
    /// The feature store on an open, migrated database.
    pub fn open(db: Db, config: &Config, data_dir: &Path) -> Self {
        Self(FeatureStore::new(db, config, data_dir))
    }

    /// Its routes: REST, and those of the Feast SDK.
    pub fn routes(&self) -> Routes {
        feature_store::routes(self.0.clone())
    }

    /// How many feature views there are; none when the feature store does not answer.
    pub async fn count(&self) -> Option<i64> {
        match self.0.counts().await {
            Ok(counts) => Some(counts.feature_views),
            Err(error) => {
                tracing::warn!(error = %error.message(), "counting the feature views failed");
                None
            }
        }
    }

    /// Makes the Feast repository that every job finds.
    pub fn repo_of_jobs() -> Option<FeastRepo> {
        Some(std::sync::Arc::new(feature_store_yaml))
    }
}
