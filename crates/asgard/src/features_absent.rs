//! What stands in the place of the feature store in a build without it: nothing.

use std::path::Path;

use db::{Db, Migrations};
use environments::Environments;
use jobs::{FeastRepo, Jobs};
use sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use serving::OnlineFeatures;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use web::{Routes, Style};

/// No settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Set by the binary, and not used.
    #[serde(skip)]
    pub aws: aws::AwsVariables,
}

/// No tables.
pub const MIGRATIONS: Migrations = Migrations {
    domain: "feature_store",
    steps: &[],
};

/// No feature store.
#[derive(Clone)]
pub struct Features;

impl Features {
    /// Nothing to open.
    ///
    /// # Errors
    /// Never.
    pub fn open(_: Db, _: &Config, _: &Path, _: Environments, _: Sandbox) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Nothing goes on.
    pub async fn work(self, _: CancellationToken) {}

    /// No routes: `/feast/*` is answered like any path that is not there.
    pub fn routes(&self) -> Routes {
        Routes::new(Style::Asgard)
    }

    /// Nothing fills columns.
    pub fn online(&self) -> Option<OnlineFeatures> {
        None
    }

    /// No training from features.
    pub fn training_routes(&self, _: Jobs) -> Routes {
        Routes::new(Style::Asgard)
    }

    /// No views to use.
    pub fn usage_routes(&self, _: Jobs) -> Routes {
        Routes::new(Style::Asgard)
    }

    /// Nothing answers.
    pub async fn count(&self) -> Option<i64> {
        None
    }

    /// Jobs find no Feast repository.
    pub fn repo_of_jobs() -> Option<FeastRepo> {
        None
    }
}

/// No routes to describe.
pub fn openapi() -> OpenApi {
    OpenApi::default()
}

/// Nothing to copy.
///
/// # Errors
/// Never.
pub fn copy_online(_: &Path, _: &Path) -> anyhow::Result<bool> {
    Ok(false)
}
