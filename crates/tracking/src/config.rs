//! The sections `[tracking]` and `[artifacts]` of the configuration.

use std::path::{Path, PathBuf};

use aws::AwsVariables;
use serde::{Deserialize, Serialize};
use web::Secret;

/// Where MLflow's own page is, and an MLflow server that is there already.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// An installed mlflow (a virtual environment, its package, or the built page in it) whose
    /// page is shown at `/mlflow/`; absent: what `asgard mlflow-ui install` installed.
    pub mlflow_ui: Option<PathBuf>,
    /// The address of an MLflow server that keeps runs, models and artifacts in place of this
    /// one; absent: asgard keeps them itself.
    pub uri: Option<String>,
    /// The bearer token that the external server wants.
    pub token: Option<Secret>,
    /// The name that the external server wants, with `password`.
    pub username: Option<String>,
    /// The password that the external server wants, with `username`.
    pub password: Option<Secret>,
}

/// Where artifacts are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArtifactsConfig {
    /// A folder, or `s3://BUCKET/PREFIX`; absent: `artifacts` in the data directory.
    pub url: Option<String>,
    /// The address of a store that speaks S3; absent: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`,
    /// else Amazon's own.
    pub endpoint: Option<String>,
    /// Where clients reach that store, when they do so by another address than this server.
    pub public_endpoint: Option<String>,
    /// The bucket's region; absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket is named in the path (`ENDPOINT/BUCKET`) and not in the host name
    /// (`BUCKET.ENDPOINT`); absent: yes where an endpoint is set.
    pub path_style: Option<bool>,
    /// Whether clients may move files to and from the bucket themselves.
    pub presigned_urls: PresignedUrls,
    /// For how long a URL to the bucket that a client was given works, in seconds.
    pub presigned_url_ttl_s: u64,
    /// The `AWS_*` variables of the server's environment; set by the binary.
    #[serde(skip)]
    pub aws: AwsVariables,
}

impl Default for ArtifactsConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            public_endpoint: None,
            region: None,
            path_style: None,
            presigned_urls: PresignedUrls::default(),
            presigned_url_ttl_s: 3_600,
            aws: AwsVariables::default(),
        }
    }
}

impl ArtifactsConfig {
    /// The folder that holds the artifacts; none when they are elsewhere.
    pub fn folder(&self, data_dir: &Path) -> Option<PathBuf> {
        let Some(url) = self.url.as_deref() else {
            return Some(data_dir.join("artifacts"));
        };
        let path = url.strip_prefix("file://").unwrap_or(url);
        (!path.contains("://")).then(|| PathBuf::from(path))
    }
}

/// Whether this server signs URLs to the bucket for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresignedUrls {
    /// Never: all files pass through the server.
    Off,
    /// For clients that ask for it (`MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD`, `..._DOWNLOAD`).
    #[default]
    OnRequest,
    /// And MLflow 3.18 and newer are told to ask, as MLflow's own server does when it is set up
    /// so: every client must then reach the bucket.
    Advertised,
}
