//! What can go wrong in tracking.

use web::{ApiError, Code, MlflowError};

use crate::artifact::io_kind;

/// The failure of another part, kept whole.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure of tracking, in the words that MLflow's clients and tests know.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that the request must have is absent or empty.
    #[error(
        "Missing value for required parameter '{0}'. See the API docs for more information about request parameters."
    )]
    Missing(String),
    /// A field holds something that it cannot hold.
    #[error(
        "Invalid value {value} for parameter '{parameter}' supplied: {reason}. See the API docs for more information about request parameters."
    )]
    Field {
        parameter: String,
        value: String,
        reason: String,
    },
    /// The request is wrong in another way.
    #[error("{0}")]
    Invalid(String),
    /// The body is not JSON, or does not say so.
    #[error("{0}")]
    Body(String),
    /// The body is larger than this server takes.
    #[error("the body is larger than this route takes")]
    BodyTooLarge,
    /// There is no such experiment.
    #[error("No Experiment with {by} exists")]
    ExperimentNotFound {
        /// `id=7` or `name='x'`.
        by: String,
    },
    /// Another experiment has this name.
    #[error("Experiment(name={0}) already exists.{hint}", hint = deleted_hint(.1))]
    ExperimentExists(String, bool),
    /// There is no such run.
    #[error("Run with id={0} not found")]
    RunNotFound(String),
    /// There is no such logged model.
    #[error("Logged model with ID '{0}' not found.")]
    LoggedModelNotFound(String),
    /// There is no such thing of another kind.
    #[error("{0}")]
    NotFound(String),
    /// A job writes what is not its own.
    #[error("{what} does not belong to job {job_id}; a job writes only what it made itself")]
    NotOwned { what: String, job_id: String },
    /// A caller without a higher role removes artifacts.
    #[error("removing artifacts needs a key of the role editor or admin")]
    DeletingArtifacts,
    /// The files of a registered version stay as they are.
    #[error(
        "the artifact {path:?} belongs to {version}, which is registered, so its files stay as they are; log a new model and register it, or use a key of the role editor"
    )]
    Registered { path: String, version: String },
    /// The operation is known, but this server does not do it.
    #[error("{0}")]
    NotImplemented(String),
    /// A path of an artifact that no artifact may have.
    #[error("Invalid path: {path:?}: {reason}")]
    InvalidPath { path: String, reason: &'static str },
    /// A path of an artifact that leads out of the folder that it is joined to.
    #[error("Invalid path: {path:?}: {reason}")]
    PathLeadsOut { path: String, reason: &'static str },
    /// There is no such artifact.
    #[error("no artifact {path:?}")]
    ArtifactNotFound { path: String },
    /// A part of an artifact was asked for that it does not have.
    #[error("the range is not within the artifact's {size_bytes} bytes")]
    ArtifactRange { size_bytes: u64 },
    /// An artifact is too large to be read whole.
    #[error("the artifact {path:?} is larger than {limit_bytes} bytes")]
    ArtifactTooLarge { path: String, limit_bytes: u64 },
    /// The artifact store of the configuration cannot be used.
    #[error("cannot use {place:?} as the artifact store")]
    ArtifactStore { place: String, source: Cause },
    /// The caller's upload ended before it was whole.
    #[error("the upload ended early: {0}")]
    Upload(Cause),
    /// The artifact store failed.
    #[error("{attempt} the artifact {path:?} failed")]
    Storage {
        attempt: &'static str,
        path: String,
        source: Cause,
    },
    /// The bucket does not answer, or refuses this server.
    #[error(
        "{attempt} the artifact {path:?} failed: the bucket does not answer or refuses this server; 'asgard doctor' there says why"
    )]
    Bucket {
        attempt: &'static str,
        path: String,
        source: Cause,
    },
    /// The configuration of the external MLflow server cannot be used; nothing of it is shown.
    #[error("{0}")]
    ExternalSetting(&'static str),
    /// The external MLflow server cannot be reached.
    #[error("the MLflow server {url} (tracking.uri) cannot be reached")]
    Unreachable { url: String, source: Cause },
    /// The external MLflow server does not answer in time.
    #[error("the MLflow server {url} (tracking.uri) did not answer within {waited_s} s")]
    NoAnswer { url: String, waited_s: u64 },
    /// The external MLflow server does not take asgard's credentials.
    #[error(
        "the MLflow server {url} (tracking.uri) does not take the credentials that asgard sends"
    )]
    ExternalCredentials { url: String },
    /// The external MLflow server refused what asgard asked of it.
    #[error("the MLflow server {url} (tracking.uri) refused: {message}")]
    ExternalAnswer {
        url: String,
        status: u16,
        error_code: Option<String>,
        message: String,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers to be had: {0}")]
    Random(String),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] db::Error),
}

/// An error and what caused it, the outermost first.
pub(crate) fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn deleted_hint(deleted: &bool) -> &'static str {
    if *deleted {
        " It is deleted: restore it, or choose another name."
    } else {
        ""
    }
}

impl Error {
    /// A field that holds something it cannot hold; `value` is shown as it was sent.
    pub fn field(
        parameter: impl Into<String>,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Field {
            parameter: parameter.into(),
            value: value.into(),
            reason: reason.into(),
        }
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing(_)
            | Self::Field { .. }
            | Self::Invalid(_)
            | Self::InvalidPath { .. }
            | Self::PathLeadsOut { .. }
            | Self::Upload(_) => Code::Invalid,
            Self::Body(_) => Code::UnsupportedMediaType,
            Self::BodyTooLarge | Self::ArtifactTooLarge { .. } => Code::TooLarge,
            Self::ArtifactRange { .. } => Code::Invalid,
            Self::ExperimentNotFound { .. }
            | Self::RunNotFound(_)
            | Self::LoggedModelNotFound(_)
            | Self::NotFound(_)
            | Self::ArtifactNotFound { .. } => Code::NotFound,
            Self::ExperimentExists(..) => Code::AlreadyExists,
            Self::NotOwned { .. } | Self::DeletingArtifacts | Self::Registered { .. } => {
                Code::Forbidden
            }
            Self::NotImplemented(_) => Code::NotImplemented,
            Self::Storage { source, .. } if is_full(&**source) => Code::InsufficientStorage,
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Bucket { .. } => Code::Unavailable,
            Self::Unreachable { .. } | Self::NoAnswer { .. } => Code::Unavailable,
            Self::ExternalCredentials { .. } => Code::BadGateway,
            Self::ExternalAnswer { status, .. } => match status {
                400 => Code::Invalid,
                403 => Code::Forbidden,
                404 => Code::NotFound,
                409 => Code::Conflict,
                429 => Code::TooMany,
                503 => Code::Unavailable,
                _ => Code::BadGateway,
            },
            Self::ExternalSetting(_) => Code::Internal,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            Self::ArtifactStore { .. } | Self::Storage { .. } | Self::Random(_) | Self::Db(_) => {
                Code::Internal
            }
        }
    }
}

/// Whether the disk, or the caller's part of it, has no room left.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(io_kind(error), Some(StorageFull | QuotaExceeded))
}

impl Error {
    /// What to do about a failure of the external MLflow server.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => {
                "start that server or correct tracking.uri; asgard goes on by itself when it is back"
            }
            Self::NoAnswer { .. } => {
                "look at that server's load and log; asgard goes on by itself when it answers again"
            }
            Self::ExternalCredentials { .. } => {
                "set tracking.token, or tracking.username and tracking.password, to what that server takes, and start asgard again"
            }
            Self::ExternalAnswer { status: 500.., .. } => "look at that server's log",
            _ => return None,
        })
    }

    /// Whether the external MLflow server is away for now, so that asking again may help.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::ExternalAnswer { status, .. } => (502..=504).contains(status),
            _ => false,
        }
    }

    /// Whether the external MLflow server failed, not asgard or its caller.
    fn is_external(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::NoAnswer { .. }
                | Self::ExternalCredentials { .. }
                | Self::ExternalAnswer { .. }
        )
    }

    /// The message with what caused it, for a failure of the external server.
    fn with_cause(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if error.is_external() {
            let text = error.with_cause();
            tracing::warn!(error = text, "the external MLflow server failed or refused");
            let answer = Self::new(error.code(), text).named("mlflow_server");
            let answer = match error.code() {
                Code::Unavailable => answer.retry_after(1),
                _ => answer,
            };
            return match error.help() {
                Some(help) => answer.help(help),
                None => answer,
            };
        }
        match error.code() {
            Code::Internal => Self::internal(&error),
            Code::InsufficientStorage => Self::storage_full(&error),
            Code::Invalid if matches!(error, Error::Db(_)) => Self::nul(),
            Code::Unavailable if matches!(error, Error::Bucket { .. }) => {
                let texts: Vec<String> = causes(&error).map(ToString::to_string).collect();
                tracing::error!(error = texts.join(": "), "the bucket of artifacts fails");
                Self::new(Code::Unavailable, error.to_string()).retry_after(1)
            }
            Code::Unavailable => {
                tracing::warn!(%error, "a part that tracking needs does not answer");
                Self::new(Code::Unavailable, "the database does not answer now").retry_after(1)
            }
            code => Self::new(code, error.to_string()),
        }
    }
}

impl From<Error> for MlflowError {
    fn from(error: Error) -> Self {
        // MLflow's whole message, which its clients' tests compare; our own routes say more.
        if let Error::PathLeadsOut { path, reason } = &error {
            tracing::debug!(path, reason, "the path of an artifact was refused");
            return ApiError::new(error.code(), "Invalid path").into();
        }
        ApiError::from(error).into()
    }
}
