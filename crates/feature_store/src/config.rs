//! The `[feature_store]` section of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where feature tables are, and how their values are served.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Iceberg catalogs by the name that feature views call them. Besides these there is always
    /// `iceberg`, a SQL catalog on SQLite in the data directory, unless that name is given here.
    pub catalogs: BTreeMap<String, CatalogConfig>,
    /// Whether online reads leave out values that are older than their view's ttl. Feast's own
    /// servers answer them.
    pub enforce_ttl: bool,
}

/// An Iceberg SQL catalog, as pyiceberg's `sql` catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.
    pub uri: String,
    /// The folder for new tables: a path or `file://` URL.
    pub warehouse: String,
    /// The name under which the catalog keeps its tables, when it is another one.
    #[serde(default)]
    pub name: Option<String>,
}
