//! The configuration: defaults < `asgard.toml` < `ASGARD__SECTION__KEY` < flags.

mod layers;
mod origin;

pub use layers::{Flags, load};
pub use origin::Setting;

use serde::{Deserialize, Serialize};

/// Every section, one from each crate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub server: crate::server::Config,
    pub database: db::Config,
    pub artifacts: tracking::ArtifactsConfig,
    pub tracking: tracking::Config,
    pub jobs: jobs::Config,
    pub environments: environments::Config,
    pub sandbox: sandbox::Config,
    pub serving: serving::Config,
    pub webhooks: webhooks::Config,
    pub deploy: deploy::Config,
    pub images: images::Config,
    pub feature_store: crate::features::Config,
}

/// Settings with the origin of each.
pub struct Loaded {
    pub settings: Settings,
    /// Every key in order, with its value and where it came from.
    pub origins: Vec<Setting>,
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    message: String,
    /// What to do about it.
    pub help: String,
}
