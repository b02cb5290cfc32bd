//! The `[database]` section of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the database is and how many connections it may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `postgres://user:password@host/name`, or `sqlite:PATH`; absent: SQLite in the data directory.
    pub url: Option<String>,
    /// The most connections to keep open (readers, for SQLite).
    pub max_connections: u32,
    /// How long a request may wait for a connection, in milliseconds.
    pub acquire_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            max_connections: 8,
            acquire_timeout_ms: 10_000,
        }
    }
}

impl Config {
    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }

    /// Where the SQLite file is; none for another database.
    pub fn sqlite_file(&self, data_dir: &Path) -> Option<PathBuf> {
        match self.url.as_deref() {
            None => Some(data_dir.join(crate::SQLITE_FILE)),
            Some(url) => {
                let path = url.strip_prefix("sqlite:")?;
                Some(PathBuf::from(path.trim_start_matches("//")))
            }
        }
    }

    /// The URL as it may be shown: without its password.
    pub fn display_url(&self) -> Option<String> {
        self.url.as_deref().map(without_password)
    }
}

/// Hides the password of a `scheme://user:password@host` URL.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((login, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    let user = login.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***@{host}")
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("postgres://a:s3c@ret@h/db"),
            "postgres://a:***@h/db"
        );
        assert_eq!(without_password("sqlite:x.db"), "sqlite:x.db");
    }
}
