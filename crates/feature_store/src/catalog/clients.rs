//! The clients of the buckets in which tables lie.

use std::sync::{Arc, Mutex, PoisonError};

use aws::AwsKeys;
use iceberg::Result;
use object_store::aws::AmazonS3;

/// The clients of buckets that the tables of a catalog share, the last ones used at the end: each has
/// its connections, and may have asked for credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(pub(super) Arc<Mutex<Vec<(For, AmazonS3)>>>);

/// What a client is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct For {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) keys: Option<AwsKeys>,
    pub(super) bucket: String,
}

/// How many clients are kept: a catalog gives out new credentials again and again.
pub(super) const MOST_CLIENTS: usize = 64;

impl Clients {
    pub(super) fn get(
        &self,
        wanted: For,
        make: impl FnOnce() -> Result<AmazonS3>,
    ) -> Result<AmazonS3> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|(known, _)| *known == wanted);
        let (wanted, client) = match known {
            Some(at) => all.remove(at),
            None => (wanted, make()?),
        };
        if all.len() == MOST_CLIENTS {
            all.remove(0);
        }
        all.push((wanted, client.clone()));
        Ok(client)
    }
}
