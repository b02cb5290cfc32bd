//! What can go wrong with jobs.

use web::{ApiError, Code, FieldError};

use crate::job::Status;

/// A failure of an operation on jobs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no training job {0}")]
    NotFound(String),
    /// Fields of the request are refused.
    #[error("the request is refused: {}", .0.iter().map(|f| f.msg.as_str()).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldError>),
    #[error("{waiting} jobs wait already, the most that this server keeps")]
    QueueFull { waiting: i64 },
    #[error("the job {job_id} is {} already", status.as_str())]
    Finished { job_id: String, status: Status },
    #[error("the Idempotency-Key {0:?} was used for another request")]
    IdempotencyKey(String),
    /// The row of the job is not what this version writes.
    #[error(
        "the stored job {job_id} cannot be read: its {column} is not what this version of asgard writes"
    )]
    Unreadable {
        job_id: String,
        column: &'static str,
    },
    /// Its variables were sealed with a key that this server does not have.
    #[error("the variables of job {0} were {how}", how = db::SealError::OtherKey)]
    Sealed(String),
    /// Variables cannot be sealed.
    #[error(transparent)]
    Seal(#[from] db::SealError),
    #[error("the job {0} now belongs to another server")]
    NotOurs(String),
    /// The inline metadata of a script cannot be read.
    #[error("{0}")]
    Metadata(String),
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The end of a job could not be noted for webhooks.
    #[error("noting the end of the job for webhooks failed")]
    Webhooks(#[from] webhooks::Error),
    #[error(transparent)]
    Tracking(#[from] tracking::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Environments(#[from] environments::Error),
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("{what} failed")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Whether an external MLflow server is away for now.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Tracking(error) => error.is_away(),
            Self::Registry(error) => error.is_away(),
            _ => false,
        }
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Fields(_) => Code::Unprocessable,
            Self::QueueFull { .. } => Code::TooMany,
            Self::Finished { .. }
            | Self::IdempotencyKey(_)
            | Self::Unreadable { .. }
            | Self::Sealed(_)
            | Self::NotOurs(_) => Code::Conflict,
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            Self::Webhooks(error) => error.code(),
            _ => Code::Internal,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Fields(fields) => Self::fields(fields),
            Error::NotFound(_) => Self::new(code, error.to_string())
                .named("job_not_found")
                .titled("Job not found")
                .help("GET /mlops/training/jobs lists the jobs, POST /mlops/training/upload starts one"),
            Error::QueueFull { .. } => Self::new(code, error.to_string())
                .named("queue_full")
                .retry_after(30)
                .help("try again later, or raise jobs.queue_limit or jobs.parallel in asgard.toml"),
            Error::Finished { .. } => Self::new(code, error.to_string())
                .named("job_finished")
                .help("only queued and running jobs can be cancelled"),
            Error::IdempotencyKey(_) => Self::new(code, error.to_string())
                .named("idempotency_key_reused")
                .help("send a new Idempotency-Key with each new request, and the same one only with a repeated request"),
            Error::Unreadable { .. } => Self::new(code, error.to_string())
                .named("job_unreadable")
                .help("it cannot be run again: upload its script anew by POST /mlops/training/upload"),
            Error::Sealed(_) => Self::new(code, error.to_string())
                .named("variables_sealed")
                .help("it cannot be run again without them: give every server on this database the same server.secret_key, or upload the script anew by POST /mlops/training/upload"),
            Error::Db(_) if code == Code::InsufficientStorage => Self::storage_full(&error),
            Error::Db(_) if code == Code::Invalid => Self::nul(),
            Error::Db(_) if code == Code::Unavailable => {
                Self::new(code, "the database does not answer now")
                    .retry_after(2)
                    .help("try again; the server's log has the cause")
            }
            other => Self::internal(&other),
        }
    }
}
