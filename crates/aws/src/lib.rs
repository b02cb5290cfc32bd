//! What speaking to Amazon's services, and to stores that speak S3, takes: the variables that hold
//! credentials, where a bucket is, and signed calls. No AWS SDK: its crates would be more to build
//! than all of the rest.

mod caller;
mod s3;
mod signature;
mod variables;

pub use caller::Caller;
pub use s3::{Address, Bucket, Settings, client, credentials};
pub use signature::{AwsKeys, Call, sign};
pub use variables::AwsVariables;

/// Why something cannot be opened.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
