//! What can go wrong with webhooks.

use db::SealError;
use web::{ApiError, Code, MlflowError};

/// A failure of webhooks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such webhook.
    #[error("Webhook with ID {0} not found.")]
    NotFound(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The request is read by MLflow's rules, and breaks them.
    #[error(transparent)]
    Request(#[from] tracking::Error),
    /// The operating system gives no random numbers.
    #[error("no random numbers to be had: {0}")]
    Random(String),
    /// A secret was sealed with a key that this server does not have.
    #[error("the webhook's secret was {0}, or set the webhook's secret anew")]
    Sealed(SealError),
    /// A secret cannot be sealed.
    #[error(transparent)]
    Seal(SealError),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] db::Error),
}

impl Error {
    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Invalid(_) => Code::Invalid,
            Self::Request(error) => error.code(),
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            // The caller can set the secret anew.
            Self::Sealed(_) => Code::Conflict,
            Self::Seal(_) | Self::Random(_) | Self::Db(_) => Code::Internal,
        }
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::OtherKey => Self::Sealed(error),
            other => Self::Seal(other),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error.code() {
            Code::Internal => Self::internal(&error),
            Code::Unavailable => {
                tracing::warn!(%error, "the database of webhooks does not answer");
                Self::new(Code::Unavailable, "the database does not answer now").retry_after(1)
            }
            Code::InsufficientStorage => Self::storage_full(&error),
            Code::Invalid if matches!(error, Error::Db(_)) => Self::nul(),
            code => Self::new(code, error.to_string()),
        }
    }
}

impl From<Error> for MlflowError {
    fn from(error: Error) -> Self {
        ApiError::from(error).into()
    }
}
