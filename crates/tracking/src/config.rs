//! The `[tracking]` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where artifacts are kept, and where MLflow's own page is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A folder or an object store URL; absent: `artifacts` in the data directory.
    pub artifacts_url: Option<String>,
    /// An installed mlflow (a virtual environment, its package, or the built page in it) whose
    /// page is shown at `/mlflow/`; absent: what `asgard mlflow-ui install` installed.
    pub mlflow_ui: Option<PathBuf>,
}
