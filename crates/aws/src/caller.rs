//! Who asks Amazon: keys of the environment, or the role of a pod, a task or a machine.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Certificate, ClientOptions, RetryConfig};

use crate::s3::{check_credentials, names_a_store};
use crate::{AwsKeys, AwsVariables, Cause, credentials};

/// How long what gives credentials may take, with all tries.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who asks a region's services; cheap to clone. Credentials are asked for when they are needed,
/// and again before they end.
#[derive(Debug, Clone)]
pub struct Caller(AmazonS3);

impl Caller {
    /// The caller that variables name. `authorities` are certificates (PEM) to trust beside the
    /// system's.
    ///
    /// # Errors
    /// Says what is wrong with the variables or the certificates.
    pub fn new(
        variables: &AwsVariables,
        region: &str,
        authorities: Option<&[u8]>,
    ) -> Result<Self, Cause> {
        check_credentials(variables)?;
        let mut options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(PATIENCE);
        for certificate in Certificate::from_pem_bundle(authorities.unwrap_or_default())? {
            options = options.with_root_certificate(certificate);
        }
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        };
        // A client has a bucket; this one is never spoken to.
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_client_options(options)
            .with_retry(retry);
        for (name, value) in variables.iter().filter(|(name, _)| !names_a_store(name)) {
            if let Ok(known) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(known, value);
            }
        }
        Ok(Self(builder.with_region(region).build()?))
    }

    /// The keys to sign with now.
    ///
    /// # Errors
    /// When there is nobody: no keys, and no role that can be asked for.
    pub async fn keys(&self) -> Result<AwsKeys, object_store::Error> {
        credentials(&self.0).await
    }
}
