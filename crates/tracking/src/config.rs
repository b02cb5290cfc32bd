//! The `[tracking]` section of the configuration.

use serde::{Deserialize, Serialize};

/// Where artifacts are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A folder or an object store URL; absent: `artifacts` in the data directory.
    pub artifacts_url: Option<String>,
}
