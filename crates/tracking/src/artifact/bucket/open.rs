//! Opening a bucket: where it is, and with which credentials.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use rusty_s3::UrlStyle;

use super::{Bucket, MAX_URL_LIFE};
use crate::config::ArtifactsConfig;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A bucket that does not answer fails a request after about this time.
const PATIENCE: Duration = Duration::from_secs(20);

impl Bucket {
    /// Opens what `s3://BUCKET/PREFIX` names. Nothing is asked of the bucket yet.
    ///
    /// # Errors
    /// Says which setting is wrong.
    pub(in crate::artifact) fn open(
        config: &ArtifactsConfig,
        url: &str,
    ) -> Result<(Arc<dyn ObjectStore>, Self), Cause> {
        let (bucket, prefix) = parse(url)?;
        let place = Place::of(config)?;
        let s3 = client(config, &place, bucket)?;
        let public = config.public_endpoint.as_deref();
        let public = address(public.unwrap_or(&place.endpoint));
        let style = if place.path_style {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        let url = public.parse().map_err(|e| {
            format!("artifacts.public_endpoint {public:?} is not a URL such as https://s3.example.com: {e}")
        })?;
        let public = rusty_s3::Bucket::new(url, style, bucket.to_owned(), place.region)?;
        let url_life = Duration::from_secs(config.presigned_url_ttl_s);
        if url_life.is_zero() || url_life > MAX_URL_LIFE {
            return Err("artifacts.presigned_url_ttl_s must be between 1 and 604800, which is all that S3 takes".into());
        }
        let opened = Self {
            s3: s3.clone(),
            prefix: prefix.clone(),
            public,
            presigned_urls: config.presigned_urls,
            url_life,
        };
        Ok((Arc::new(PrefixStore::new(s3, prefix)), opened))
    }
}

/// The name and the prefix in `s3://BUCKET/PREFIX`.
fn parse(url: &str) -> Result<(&str, Key), Cause> {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if bucket.is_empty() || !bucket.chars().all(named) {
        return Err("write it as s3://BUCKET or s3://BUCKET/PREFIX".into());
    }
    let prefix = Key::parse(prefix.trim_matches('/'))
        .map_err(|e| format!("its prefix {prefix:?} is no path in a bucket: {e}"))?;
    Ok((bucket, prefix))
}

/// Where the store is.
struct Place {
    endpoint: String,
    region: String,
    path_style: bool,
    /// Whether the endpoint is Amazon's own for the region.
    amazon: bool,
}

impl Place {
    fn of(config: &ArtifactsConfig) -> Result<Self, Cause> {
        let aws = &config.aws;
        let first = |set: &Option<String>, names: [&str; 2]| {
            let known = names.into_iter().find_map(|name| aws.get(name));
            set.clone().or_else(|| known.map(str::to_owned))
        };
        let endpoint = first(
            &config.endpoint,
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        );
        let region = first(&config.region, ["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        if let Some(endpoint) = &endpoint
            && !["http://", "https://"]
                .iter()
                .any(|scheme| endpoint.starts_with(scheme))
        {
            return Err(format!(
                "artifacts.endpoint {endpoint:?} is not a URL such as https://s3.example.com"
            )
            .into());
        }
        Ok(Self {
            path_style: config.path_style.unwrap_or(endpoint.is_some()),
            amazon: endpoint.is_none(),
            endpoint: endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com")),
            region,
        })
    }

    /// The endpoint as the client wants it: with the bucket where its name is part of the host.
    fn endpoint_of(&self, bucket: &str) -> String {
        match self.endpoint.split_once("://") {
            Some((scheme, host)) if !self.path_style => format!("{scheme}://{bucket}.{host}"),
            _ => self.endpoint.clone(),
        }
    }
}

fn client(config: &ArtifactsConfig, place: &Place, bucket: &str) -> Result<AmazonS3, Cause> {
    check_credentials(config)?;
    let options = ClientOptions::new()
        .with_allow_http(place.endpoint.starts_with("http://"))
        .with_connect_timeout(Duration::from_secs(5))
        // A large file may take any time.
        .with_timeout_disabled();
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 5,
        retry_timeout: PATIENCE,
    };
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options)
        .with_retry(retry);
    for (name, value) in config.aws.iter().filter(|(name, _)| !names_a_store(name)) {
        if let Ok(known) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(known, value);
        }
    }
    if !place.amazon {
        builder = builder.with_endpoint(address(&place.endpoint_of(bucket)));
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_region(&place.region)
        .with_virtual_hosted_style_request(!place.path_style)
        .build();
    Ok(built?)
}

/// What [`Place`] has settled already.
fn names_a_store(variable: &str) -> bool {
    variable.starts_with("AWS_ENDPOINT") && variable != "AWS_ENDPOINT_URL_STS"
}

fn address(endpoint: &str) -> String {
    endpoint.trim_end_matches('/').to_owned()
}

/// Profiles are files of Amazon's own tools, which nothing here reads: better said now than by
/// the bucket's refusal later.
fn check_credentials(config: &ArtifactsConfig) -> Result<(), Cause> {
    let has = |name| config.aws.get(name).is_some();
    let sourced = has("AWS_ACCESS_KEY_ID") || has("AWS_WEB_IDENTITY_TOKEN_FILE");
    match config.aws.get("AWS_PROFILE") {
        Some(profile) if !sourced => Err(format!(
            "AWS_PROFILE names the profile {profile:?}, and asgard reads no profile files: run 'eval \"$(aws configure export-credentials --profile {profile} --format env)\"' first, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AwsVariables;

    fn config(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> ArtifactsConfig {
        let owned = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut config = ArtifactsConfig {
            aws: AwsVariables::from_variables(owned),
            ..ArtifactsConfig::default()
        };
        for (key, value) in settings {
            match *key {
                "endpoint" => config.endpoint = Some((*value).to_owned()),
                "region" => config.region = Some((*value).to_owned()),
                other => panic!("no setting {other}"),
            }
        }
        config
    }

    #[test]
    fn a_url_names_a_bucket_and_a_prefix() {
        for (url, bucket, prefix) in [
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("s3://b/team/x/", "b", "team/x"),
        ] {
            assert_eq!(parse(url).unwrap(), (bucket, Key::parse(prefix).unwrap()));
        }
        for wrong in ["s3://", "s3:///x", "s3://a b", "s3://u:p@b/x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_come_before_variables_and_variables_before_amazon() {
        let variables = [
            ("AWS_ENDPOINT_URL", "http://generic:1"),
            ("AWS_ENDPOINT_URL_S3", "http://s3:2"),
            ("AWS_REGION", "eu-west-1"),
        ];
        let set = [("endpoint", "https://store:3"), ("region", "r")];
        let place = Place::of(&config(&set, &variables)).unwrap();
        assert_eq!((&*place.endpoint, &*place.region), ("https://store:3", "r"));
        let place = Place::of(&config(&[], &variables)).unwrap();
        assert_eq!(
            (&*place.endpoint, &*place.region),
            ("http://s3:2", "eu-west-1")
        );
        assert!(place.path_style);
        let place = Place::of(&config(&[], &[])).unwrap();
        assert_eq!(place.endpoint, "https://s3.us-east-1.amazonaws.com");
        assert!(!place.path_style);
    }

    #[test]
    fn a_profile_without_keys_is_refused_with_the_command_that_helps() {
        let refused = check_credentials(&config(&[], &[("AWS_PROFILE", "ml")]));
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("export-credentials --profile ml"),
            "{message}"
        );
        let keys = [("AWS_PROFILE", "ml"), ("AWS_ACCESS_KEY_ID", "a")];
        assert!(check_credentials(&config(&[], &keys)).is_ok());
    }

    #[test]
    fn the_secrets_of_the_environment_are_never_printed() {
        let shown = format!("{:?}", config(&[], &[("AWS_SECRET_ACCESS_KEY", "s3cret")]));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY"), "{shown}");
    }
}
