//! The `[feature_store]` section of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store;

/// Where feature tables are, and how their values are served.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Iceberg catalogs by the name that feature views call them. Besides these there is always
    /// `iceberg`, a SQL catalog on SQLite in the data directory, unless that name is given here.
    pub catalogs: BTreeMap<String, CatalogConfig>,
    /// Where online values are kept.
    pub online: OnlineStore,
    /// Whether online reads leave out values that are older than their view's ttl. Feast's own
    /// servers answer them.
    pub enforce_ttl: bool,
}

/// Where online values are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlineStore {
    /// In memory, with a durable copy in the data directory: for one server.
    #[default]
    Local,
    /// In asgard's PostgreSQL database, which several servers share.
    Postgres,
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

impl CatalogConfig {
    /// Refuses what cannot be read, before anything is asked of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting and what it may be.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        let key = format!("feature_store.catalogs.{name}");
        if self.uri.starts_with("http://") || self.uri.starts_with("https://") {
            return Err(Error::Invalid(format!(
                "{key}.uri: Iceberg REST catalogs cannot be read yet; give a SQL catalog, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
            )));
        }
        store::catalogs::Uri::parse(name, &self.uri)?;
        match self.warehouse.split_once("://") {
            None | Some(("file", _)) => Ok(()),
            Some((scheme, _)) => Err(Error::Invalid(format!(
                "{key}.warehouse: tables in {scheme}:// cannot be read yet; give a folder, as /PATH or file:///PATH"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CatalogConfig;

    #[test]
    fn a_catalog_that_cannot_be_read_is_refused_with_what_can() {
        let check = |uri: &str, warehouse: &str| {
            let config = CatalogConfig {
                uri: uri.to_owned(),
                warehouse: warehouse.to_owned(),
                name: None,
            };
            config.check("lake").err().map(|error| error.to_string())
        };
        assert_eq!(check("sqlite:////srv/c.db", "/srv"), None);
        assert_eq!(check("postgresql+psycopg2://h/d", "file:///srv"), None);
        for (uri, warehouse, named) in [
            (
                "https://catalog/api",
                "/srv",
                "feature_store.catalogs.lake.uri",
            ),
            ("mysql://h/d", "/srv", "sqlite:///PATH"),
            (
                "sqlite:////srv/c.db",
                "s3://bucket/w",
                "s3:// cannot be read yet",
            ),
        ] {
            let refused = check(uri, warehouse).unwrap();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
