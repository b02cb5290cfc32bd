//! The `[environments]` section of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How Python environments are resolved and built.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The `uv` program; absent: found on PATH, else installed into the data directory.
    pub uv: Option<PathBuf>,
    /// A version (`3.11`) or the absolute path of an interpreter; absent: the first found of
    /// 3.11, 3.12, 3.10, 3.13.
    pub python: Option<String>,
    /// The package index; absent: uv's own default, or the user's `UV_INDEX_URL`, `PIP_INDEX_URL`.
    pub index_url: Option<String>,
    /// Whether packages without a wheel may be built. That runs their code in the build sandbox,
    /// where it could change uv's cache and so every environment built from it later.
    pub allow_source_builds: bool,
    /// Ignore packages uploaded after this date (`2026-01-31` or RFC 3339).
    pub exclude_newer: Option<String>,
    /// For how long the same list of requirements means the same packages, in seconds.
    pub resolution_ttl_s: u64,
    /// How many environments are resolved or built at the same time.
    pub max_builds: usize,
    /// How long one build may take, in seconds.
    pub build_timeout_s: u64,
    /// After how many days without use an environment is removed; 0: never. Those that registered
    /// versions were trained in stay.
    pub keep_unused_days: u32,
    /// Beyond which size uv's cache is removed, in bytes; 0: never.
    pub cache_limit_bytes: u64,
    /// Beyond which size what lists of requirements meant is forgotten, that used longest ago
    /// first, in bytes; 0: never.
    pub resolutions_limit_bytes: u64,
    /// The variables of the server's environment that matter here; set by the binary.
    #[serde(skip)]
    pub host: HostEnvironment,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uv: None,
            python: None,
            index_url: None,
            allow_source_builds: false,
            exclude_newer: None,
            resolution_ttl_s: 300,
            max_builds: 2,
            build_timeout_s: 1_800,
            keep_unused_days: 30,
            cache_limit_bytes: 20 << 30,
            resolutions_limit_bytes: 256 << 20,
            host: HostEnvironment::default(),
        }
    }
}

/// The variables of the server's environment that say where programs, packages and certificates
/// are. All others are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostEnvironment(BTreeMap<String, String>);

impl HostEnvironment {
    /// Keeps what matters of `variables`.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(
            variables
                .into_iter()
                .filter(|(name, value)| !value.is_empty() && matters(name))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

fn matters(name: &str) -> bool {
    const EXACT: [&str; 12] = [
        "PATH",
        "HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ];
    const PREFIXES: [&str; 2] = ["UV_", "PIP_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p))
}
