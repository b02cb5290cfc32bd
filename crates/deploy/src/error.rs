//! What can go wrong with deployments.

use serde_json::json;
use web::{ApiError, Code, FieldError};

use crate::check::Missing;
use crate::deployment::{Failure, Fault, Target};

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
    /// The deployments of one endpoint share its address, so they are in one place.
    #[error(
        "the model {model_name:?} has deployments in the namespace {namespace:?} that are not on the target {}", .target.as_str()
    )]
    OtherTarget {
        model_name: String,
        namespace: String,
        target: Target,
    },
    #[error("the cluster chooses the replicas of the deployment {0} by their load")]
    Autoscaled(String),
    #[error("the deployment {0} is not in a cluster")]
    NotInCluster(String),
    /// What a cluster, or the lack of one, does to an operation.
    #[error("{}", .0.problem.message)]
    Cluster(Box<Failure>),
    /// The settings cannot be meant.
    #[error("{0}")]
    Settings(&'static str),
    #[error("there is no deployment before {0} to go back to")]
    NothingBefore(String),
    #[error(
        "the stored deployment {id} cannot be read: its {column} is not what this version writes"
    )]
    Stored { id: String, column: &'static str },
    /// The upload of its script or its variables cannot be sealed, or were sealed with a key that this
    /// server does not have. Whoever asked sees nothing but this.
    #[error("the sealed variables of deployment {id} cannot be stored or read: {source}")]
    Sealed { id: String, source: db::SealError },
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

const SEALED: &str = "variables_sealed";
const SEALED_HELP: &str = "bring back the key that they were sealed with (server.secret_key, or secrets.key in the data directory), or deploy again with the variables";

impl Error {
    /// As the end of a deployment that cannot go on.
    pub(crate) fn failure(&self) -> Failure {
        let (code, title, help) = match self {
            Self::Sealed { .. } => (SEALED, "Variables sealed", SEALED_HELP),
            _ => (
                "internal",
                "Internal error",
                "the server's log has the cause; deploy again when it is mended",
            ),
        };
        let help = Some(help.to_owned());
        Failure::new(Fault::Server, code, title, self.to_string(), help)
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::Fields(_) | Self::Script(_) => Code::Unprocessable,
            Self::IdempotencyKey(_)
            | Self::NotLive { .. }
            | Self::OnlyOne(_)
            | Self::OtherTarget { .. }
            | Self::Autoscaled(_)
            | Self::NotInCluster(_)
            | Self::Sealed { .. }
            | Self::NothingBefore(_) => Code::Conflict,
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            Self::Cluster(failure) => failure.fault.code(),
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
            Error::Autoscaled(_) => told
                .named("autoscaled")
                .help("deploy it again with other bounds in 'autoscale', or without them"),
            Error::NotInCluster(_) => told
                .named("not_in_cluster")
                .help("only deployments with the target kubernetes differ from what they should be"),
            Error::Cluster(failure) => {
                let problem = failure.problem;
                let told = told.named("cluster_failed").titled(problem.error);
                let told = told.details(json!({ "reason": problem.code }));
                told.help(problem.help.unwrap_or_default())
            }
            Error::OtherTarget { .. } => told.named("other_target").help(
                "name the same target, or another namespace, or remove those first: GET /mlops/deployments?live=true&model_name=NAME lists them",
            ),
            Error::Sealed { .. } => told.named(SEALED).help(SEALED_HELP),
            Error::NothingBefore(_) => told.named("nothing_to_roll_back_to").help(
                "name one in 'to': GET /mlops/deployments?model_name=NAME lists all that were deployed",
            ),
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
