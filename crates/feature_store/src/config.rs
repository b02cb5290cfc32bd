//! The `[feature_store]` section of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::AwsVariables;
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
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`, where `online` is `redis`.
    pub redis_url: Option<String>,
    /// How the functions of on-demand feature views run.
    pub on_demand: OnDemandConfig,
    /// Whether online reads leave out values that are older than their view's ttl. Feast's own
    /// servers answer them.
    pub enforce_ttl: bool,
    /// The `AWS_*` variables of the server's environment; set by the binary.
    #[serde(skip)]
    pub aws: AwsVariables,
}

/// How the functions of on-demand feature views run: each in a sandboxed worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnDemandConfig {
    /// Packages beside dill, numpy, pandas and pyarrow.
    pub requirements: Vec<String>,
    /// The version of Python; absent: that of training jobs.
    pub python: Option<String>,
    /// How long one call may take, in milliseconds.
    pub timeout_ms: u64,
    /// The most memory that one worker may use, in bytes.
    pub memory_bytes: u64,
    /// The most workers; the one that nobody asked for longest is stopped for another.
    pub max_workers: usize,
    /// A worker that nobody asked for this long is stopped, in seconds.
    pub idle_timeout_s: u64,
}

impl Default for OnDemandConfig {
    fn default() -> Self {
        Self {
            requirements: Vec::new(),
            python: None,
            timeout_ms: 30_000,
            memory_bytes: 2 << 30,
            max_workers: 4,
            idle_timeout_s: 600,
        }
    }
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
    /// In a store of the Redis protocol, which several servers share.
    Redis,
}

/// The longest that one request to the bucket of a table may take.
const BUCKET_PATIENCE: Duration = Duration::from_secs(60);

/// An Iceberg SQL catalog, as pyiceberg's `sql` catalog has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/NAME`.
    pub uri: String,
    /// Where new tables go: a folder (a path or `file://` URL), or `s3://BUCKET/PREFIX`.
    pub warehouse: String,
    /// The name under which the catalog keeps its tables, when it is another one.
    #[serde(default)]
    pub name: Option<String>,
    /// The address of a store that speaks S3; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`,
    /// else Amazon's own.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The bucket's region; absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket is named in the path and not in the host name; absent: yes where an
    /// endpoint is set.
    #[serde(default)]
    pub path_style: Option<bool>,
}

impl CatalogConfig {
    /// Refuses what cannot be read, before anything is asked of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting and what it may be.
    pub(crate) fn check(&self, name: &str, variables: &AwsVariables) -> Result<(), Error> {
        let key = format!("feature_store.catalogs.{name}");
        if self.uri.starts_with("http://") || self.uri.starts_with("https://") {
            return Err(Error::Invalid(format!(
                "{key}.uri: Iceberg REST catalogs cannot be read yet; give a SQL catalog, sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
            )));
        }
        store::catalogs::Uri::parse(name, &self.uri)?;
        match self.warehouse.split_once("://") {
            None | Some(("file", _)) => Ok(()),
            Some(("s3", _)) => self.check_bucket(name, variables),
            Some((scheme, _)) => Err(Error::Invalid(format!(
                "{key}.warehouse: tables in {scheme}:// cannot be read; give a folder, as /PATH or file:///PATH, or s3://BUCKET/PREFIX"
            ))),
        }
    }

    fn check_bucket(&self, name: &str, variables: &AwsVariables) -> Result<(), Error> {
        let tried = aws::Bucket::parse(&self.warehouse)
            .map_err(|cause| (format!("feature_store.catalogs.{name}.warehouse: "), cause))
            .and_then(|bucket| {
                // What it refuses names the setting itself.
                aws::client(&self.s3(name), variables, bucket.name, None)
                    .map_err(|cause| (String::new(), cause))
            });
        match tried {
            Ok(_) => Ok(()),
            Err((setting, cause)) => Err(Error::Invalid(format!("{setting}{cause}"))),
        }
    }

    /// Where the buckets of the catalog's tables are.
    pub(crate) fn s3(&self, name: &str) -> aws::Settings {
        aws::Settings {
            section: format!("feature_store.catalogs.{name}"),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            request_timeout: Some(BUCKET_PATIENCE),
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
                ..CatalogConfig::default()
            };
            let variables = Default::default();
            config
                .check("lake", &variables)
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(check("sqlite:////srv/c.db", "/srv"), None);
        assert_eq!(check("postgresql+psycopg2://h/d", "file:///srv"), None);
        assert_eq!(check("sqlite:////srv/c.db", "s3://bucket/w"), None);
        for (uri, warehouse, named) in [
            (
                "https://catalog/api",
                "/srv",
                "feature_store.catalogs.lake.uri",
            ),
            ("mysql://h/d", "/srv", "sqlite:///PATH"),
            (
                "sqlite:////srv/c.db",
                "gs://bucket/w",
                "gs:// cannot be read",
            ),
            ("sqlite:////srv/c.db", "s3:///w", "write it as s3://BUCKET"),
        ] {
            let refused = check(uri, warehouse).unwrap();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
