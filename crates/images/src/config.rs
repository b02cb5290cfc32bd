//! The `[images]` section of the configuration.

use std::path::PathBuf;

use aws::AwsVariables;
use serde::{Deserialize, Serialize};

use crate::compress::Compression;
use crate::reference::canonical_host;

/// How images are built and where they go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where images are pushed: `HOST` or `HOST/PATH`; the model's name is appended. Absent: no
    /// registry.
    pub registry: Option<String>,
    /// The image that a model's layers are put on: a name of a registry, or `dir:PATH` of an OCI
    /// layout. `{python}` stands for the Python version that is needed, such as `3.11`, and
    /// `{debian}` for the oldest release of Debian whose C library is new enough.
    pub base: String,
    /// The path of Python in the base image, where `{python}` stands for its version. Absent:
    /// `/usr/local/bin/python{python}` when the base says that it is one of Python's own images,
    /// else `/usr/bin/python{python}`.
    pub python: Option<String>,
    /// How new layers are compressed.
    pub compression: Compression,
    /// The user name at the registry of `registry`.
    pub username: Option<String>,
    /// The password or access token there.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// Credentials of any registries, as `docker login` writes them (`~/.docker/config.json`).
    pub credentials_file: Option<PathBuf>,
    /// Certificates (PEM) of private authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Hosts (`registry.local:5000`) that are spoken to without TLS, as this machine is.
    pub plain_http: Vec<String>,
    /// The region, when `registry` is an Amazon ECR that its host name does not show.
    pub ecr_region: Option<String>,
    /// Where Amazon ECR's own calls go; absent: `https://api.ecr.REGION.amazonaws.com`.
    pub ecr_endpoint: Option<String>,
    /// What the server's environment says of AWS; set by the binary.
    #[serde(skip)]
    pub aws: AwsVariables,
    /// Beyond which size finished layers are removed, the longest unused first, in bytes.
    pub cache_limit_bytes: u64,
}

/// A text that no log shows.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Config {
    /// The host of `registry`, as a reference calls it.
    pub(crate) fn own_host(&self) -> Option<&str> {
        let registry = self.registry.as_deref()?;
        Some(canonical_host(registry.split('/').next()?))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registry: None,
            base: "docker.io/library/python:{python}-slim-{debian}".to_owned(),
            python: None,
            compression: Compression::default(),
            username: None,
            password: None,
            password_file: None,
            credentials_file: None,
            ca_file: None,
            plain_http: Vec::new(),
            ecr_region: None,
            ecr_endpoint: None,
            aws: AwsVariables::default(),
            cache_limit_bytes: 20 << 30,
        }
    }
}
