//! What can go wrong with deployments.

use serde_json::json;
use web::{ApiError, Code, FieldError};

use crate::check::Missing;

/// A failure of an operation on deployments.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no deployment {0}")]
    NotFound(String),
    /// Fields of the request are refused.
    #[error("the request is refused: {}", .0.iter().map(|f| f.msg.as_str()).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldError>),
    /// The script leaves nothing that could be deployed.
    #[error("{}", .0.message())]
    Script(Missing),
    #[error("the Idempotency-Key {0:?} was used for another request")]
    IdempotencyKey(String),
    /// It can be done only to a deployment that answers.
    #[error("the deployment {id} is {state}")]
    NotLive { id: String, state: &'static str },
    #[error("the deployment {0} is the only one of its endpoint")]
    OnlyOne(String),
    #[error("there is no deployment before {0} to go back to")]
    NothingBefore(String),
    #[error(
        "the stored deployment {id} cannot be read: its {column} is not what this version writes"
    )]
    Stored { id: String, column: &'static str },
    #[error(transparent)]
    Db(#[from] db::Error),
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("cannot {attempt}")]
    Io {
        attempt: String,
        source: std::io::Error,
    },
}

impl Error {
    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Fields(_) | Self::Script(_) => Code::Unprocessable,
            Self::IdempotencyKey(_)
            | Self::NotLive { .. }
            | Self::OnlyOne(_)
            | Self::NothingBefore(_) => Code::Conflict,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            Self::Jobs(error) => error.code(),
            Self::Registry(error) => error.code(),
            _ => Code::Internal,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let code = error.code();
        let told = Self::new(code, error.to_string());
        match error {
            Error::Fields(fields) => Self::fields(fields),
            Error::Jobs(error) => error.into(),
            Error::Registry(error) => error.into(),
            Error::Script(missing) => told
                .named(missing.code())
                .titled("Script validation failed")
                .help(missing.help())
                .details(json!({ "checked": "the script's text, before anything was run" })),
            Error::NotFound(_) => told
                .named("deployment_not_found")
                .titled("Deployment not found")
                .help("GET /mlops/deployments lists the deployments, POST /mlops/deploy makes one"),
            Error::IdempotencyKey(_) => told.named("idempotency_key_reused").help(
                "send a new Idempotency-Key with each new request, and the same one only with a repeated request",
            ),
            Error::NotLive { .. } => told.named("deployment_not_live").help(
                "only a deployment that is deployed and not replaced can be changed; GET /mlops/deployments?live=true lists those",
            ),
            Error::OnlyOne(_) => told.named("only_deployment").help(
                "deploy another version with canary_percent first, or remove the deployment with DELETE",
            ),
            Error::NothingBefore(_) => told.named("nothing_to_roll_back_to").help(
                "name one in 'to': GET /mlops/deployments?model_name=NAME lists all that were deployed",
            ),
            Error::Db(_) if code == Code::Unavailable => {
                Self::new(code, "the database does not answer now")
                    .retry_after(2)
                    .help("try again; the server's log has the cause")
            }
            other => Self::internal(&other),
        }
    }
}
