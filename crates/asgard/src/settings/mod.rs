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

impl Settings {
    /// The key that secrets in the database are sealed with, where one is set.
    pub fn secret_key(&self) -> Option<&str> {
        let key = self.server.secret_key.as_ref();
        key.or(self.webhooks.secret_key.as_ref())
            .map(web::Secret::expose)
    }
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

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn the_earlier_name_of_the_key_counts_where_the_new_one_is_not_set() {
        let mut settings = Settings::default();
        assert_eq!(settings.secret_key(), None);
        settings.webhooks.secret_key = Some("old".to_owned().into());
        assert_eq!(settings.secret_key(), Some("old"));
        settings.server.secret_key = Some("new".to_owned().into());
        assert_eq!(settings.secret_key(), Some("new"));
    }
}
