//! Opening a bucket: where it is, and with which credentials.

use std::sync::Arc;
use std::time::Duration;

use aws::{Address, Cause};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use rusty_s3::UrlStyle;

use super::{Bucket, MAX_URL_LIFE};
use crate::config::ArtifactsConfig;

impl Bucket {
    /// Opens what `s3://BUCKET/PREFIX` names. Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub(in crate::artifact) fn open(
        config: &ArtifactsConfig,
        url: &str,
    ) -> Result<(Arc<dyn ObjectStore>, Self), Cause> {
        let named = aws::Bucket::parse(url)?;
        let settings = aws::Settings {
            section: "artifacts".to_owned(),
            endpoint: config.endpoint.clone(),
            region: config.region.clone(),
            path_style: config.path_style,
            request_timeout: None,
        };
        let s3 = aws::client(&settings, &config.aws, named.name, None)?;
        let place = Address::of(&settings, &config.aws)?;
        let public = config.public_endpoint.as_deref();
        let public = public.unwrap_or(&place.endpoint).trim_end_matches('/');
        let style = if place.path_style {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        let url = public.parse().map_err(|e| {
            format!("artifacts.public_endpoint {public:?} is not a URL such as https://s3.example.com: {e}")
        })?;
        let public = rusty_s3::Bucket::new(url, style, named.name.to_owned(), place.region)?;
        let url_life = Duration::from_secs(config.presigned_url_ttl_s);
        if url_life.is_zero() || url_life > MAX_URL_LIFE {
            return Err("artifacts.presigned_url_ttl_s must be between 1 and 604800, which is all that S3 takes".into());
        }
        let opened = Self {
            s3: s3.clone(),
            prefix: named.prefix.clone(),
            public,
            presigned_urls: config.presigned_urls,
            url_life,
        };
        Ok((Arc::new(PrefixStore::new(s3, named.prefix)), opened))
    }
}
