//! Buckets: where they are, and the client that reaches them with the server's credentials.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::{AwsKeys, AwsVariables, Cause};

/// A bucket that does not answer fails a request after about this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a section of the configuration says of the store.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The section's name, for messages.
    pub section: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    /// The longest that one request may take; absent: any time, as large files need.
    pub request_timeout: Option<Duration>,
}

/// The name and the prefix in `s3://BUCKET/PREFIX`.
#[derive(Debug, PartialEq, Eq)]
pub struct Bucket<'u> {
    pub name: &'u str,
    pub prefix: Key,
}

impl<'u> Bucket<'u> {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says how it is written.
    pub fn parse(url: &'u str) -> Result<Self, Cause> {
        let rest = url.strip_prefix("s3://").unwrap_or_default();
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || !name.chars().all(named) {
            return Err("write it as s3://BUCKET or s3://BUCKET/PREFIX".into());
        }
        let prefix = Key::parse(prefix.trim_matches('/'))
            .map_err(|e| format!("its prefix {prefix:?} is no path in a bucket: {e}"))?;
        Ok(Self { name, prefix })
    }
}

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Address {
    pub endpoint: String,
    pub region: String,
    pub path_style: bool,
    /// Whether the endpoint is Amazon's own for the region.
    amazon: bool,
}

impl Address {
    /// Settings come before variables, and variables before Amazon.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn of(settings: &Settings, variables: &AwsVariables) -> Result<Self, Cause> {
        let first = |set: &Option<String>, names: [&str; 2]| {
            let known = names.into_iter().find_map(|name| variables.get(name));
            set.clone().or_else(|| known.map(str::to_owned))
        };
        let endpoint = first(
            &settings.endpoint,
            ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        );
        let region = first(&settings.region, ["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        if let Some(endpoint) = &endpoint
            && !["http://", "https://"]
                .iter()
                .any(|scheme| endpoint.starts_with(scheme))
        {
            let section = &settings.section;
            return Err(format!(
                "{section}.endpoint {endpoint:?} is not a URL such as https://s3.example.com"
            )
            .into());
        }
        Ok(Self {
            path_style: settings.path_style.unwrap_or(endpoint.is_some()),
            amazon: endpoint.is_none(),
            endpoint: endpoint.unwrap_or_else(|| {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                format!("https://s3.{region}.amazonaws.com{china}")
            }),
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

/// A client of one bucket. With `keys` absent, credentials are found as Amazon's tools find them.
/// Nothing is asked of the bucket yet.
///
/// # Errors
/// Says which setting or variable is wrong.
pub fn client(
    settings: &Settings,
    variables: &AwsVariables,
    bucket: &str,
    keys: Option<&AwsKeys>,
) -> Result<AmazonS3, Cause> {
    let address = Address::of(settings, variables)?;
    if keys.is_none() {
        check_credentials(variables)?;
    }
    let options = ClientOptions::new()
        .with_allow_http(address.endpoint.starts_with("http://"))
        .with_connect_timeout(Duration::from_secs(5));
    let options = match settings.request_timeout {
        Some(longest) => options.with_timeout(longest),
        None => options.with_timeout_disabled(),
    };
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 5,
        retry_timeout: PATIENCE,
    };
    let mut builder = AmazonS3Builder::new()
        .with_client_options(options)
        .with_retry(retry);
    let given = |name: &str| keys.is_some() && names_credentials(name);
    for (name, value) in variables.iter() {
        if names_a_store(name) || given(name) {
            continue;
        }
        if let Ok(known) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(known, value);
        }
    }
    if let Some(keys) = keys {
        builder = builder
            .with_access_key_id(&keys.access_key_id)
            .with_secret_access_key(&keys.secret_access_key);
        if let Some(token) = &keys.session_token {
            builder = builder.with_token(token);
        }
    }
    if !address.amazon {
        let endpoint = address.endpoint_of(bucket);
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_region(&address.region)
        .with_virtual_hosted_style_request(!address.path_style)
        .build();
    Ok(built?)
}

/// The credentials that the client's requests are signed with now.
///
/// # Errors
/// When none can be had.
pub async fn credentials(client: &AmazonS3) -> Result<AwsKeys, object_store::Error> {
    let found = client.credentials().get_credential().await?;
    Ok(AwsKeys {
        access_key_id: found.key_id.clone(),
        secret_access_key: found.secret_key.clone(),
        session_token: found.token.clone(),
    })
}

/// What [`Address`] has settled already.
pub(crate) fn names_a_store(variable: &str) -> bool {
    variable.starts_with("AWS_ENDPOINT") && variable != "AWS_ENDPOINT_URL_STS"
}

fn names_credentials(variable: &str) -> bool {
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ]
    .contains(&variable)
}

/// Profiles are files of Amazon's own tools, which nothing here reads: better said now than by
/// the bucket's refusal later.
pub(crate) fn check_credentials(variables: &AwsVariables) -> Result<(), Cause> {
    let has = |name| variables.get(name).is_some();
    let sourced = has("AWS_ACCESS_KEY_ID") || has("AWS_WEB_IDENTITY_TOKEN_FILE");
    match variables.get("AWS_PROFILE") {
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

    fn variables(given: &[(&str, &str)]) -> AwsVariables {
        let owned = given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        AwsVariables::from_variables(owned)
    }

    #[test]
    fn a_url_names_a_bucket_and_a_prefix() {
        for (url, name, prefix) in [
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("s3://b/team/x/", "b", "team/x"),
        ] {
            let prefix = Key::parse(prefix).unwrap();
            assert_eq!(Bucket::parse(url).unwrap(), Bucket { name, prefix });
        }
        for wrong in ["s3://", "s3:///x", "s3://a b", "s3://u:p@b/x"] {
            assert!(Bucket::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_come_before_variables_and_variables_before_amazon() {
        let variables = variables(&[
            ("AWS_ENDPOINT_URL", "http://generic:1"),
            ("AWS_ENDPOINT_URL_S3", "http://s3:2"),
            ("AWS_REGION", "eu-west-1"),
        ]);
        let set = Settings {
            endpoint: Some("https://store:3".to_owned()),
            region: Some("r".to_owned()),
            ..Settings::default()
        };
        let place = Address::of(&set, &variables).unwrap();
        assert_eq!((&*place.endpoint, &*place.region), ("https://store:3", "r"));
        let place = Address::of(&Settings::default(), &variables).unwrap();
        assert_eq!(
            (&*place.endpoint, &*place.region),
            ("http://s3:2", "eu-west-1")
        );
        assert!(place.path_style);
        let place = Address::of(&Settings::default(), &AwsVariables::default()).unwrap();
        assert_eq!(place.endpoint, "https://s3.us-east-1.amazonaws.com");
        assert!(!place.path_style);
        let china = self::variables(&[("AWS_REGION", "cn-north-1")]);
        let place = Address::of(&Settings::default(), &china).unwrap();
        assert_eq!(place.endpoint, "https://s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_profile_without_keys_is_refused_with_the_command_that_helps() {
        let refused = check_credentials(&variables(&[("AWS_PROFILE", "ml")]));
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("export-credentials --profile ml"),
            "{message}"
        );
        let keys = [("AWS_PROFILE", "ml"), ("AWS_ACCESS_KEY_ID", "a")];
        assert!(check_credentials(&variables(&keys)).is_ok());
    }
}
