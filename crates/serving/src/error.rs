//! What can go wrong with a prediction.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use web::{ApiError, Code, FieldError};

use crate::fit::Problem;
use crate::worker::{Death, Raised};

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has been registered yet.
    #[error("no models are registered yet")]
    NoModels,
    /// There is no registered model of this name.
    #[error("there is no registered model {name:?}")]
    ModelNotFound {
        name: String,
        /// Models that there are.
        existing: Vec<String>,
    },
    /// The model has no such version, alias or version in this stage.
    #[error("model {name:?} has no version {version:?}")]
    VersionNotFound { name: String, version: String },
    /// A model server answers for one version only.
    #[error("this server answers for version {served} of {name:?}, not for version {version:?}")]
    OtherVersion {
        name: String,
        version: String,
        served: i64,
    },
    /// The request leaves columns to a feature store, and there is none.
    #[error("features_from: this server has no feature store")]
    NoFeatureStore,
    /// The feature store refuses the question.
    #[error("features_from: {}", .0.message())]
    Features(Box<ApiError>),
    /// The columns do not fit the model.
    #[error("the columns do not fit the model")]
    Inputs(Vec<Problem>),
    /// The version's files are no model that can be served.
    #[error("version {version} of model {name:?} cannot be served: {reason}")]
    NotAModel {
        name: String,
        version: i64,
        reason: String,
        /// What is there instead.
        files: Vec<String>,
    },
    /// The model's Python environment cannot be made.
    #[error("the Python environment of version {version} of model {name:?} cannot be made")]
    Environment {
        name: String,
        version: i64,
        source: environments::Error,
    },
    /// The model's own environment is unknown: nothing says which packages it needs.
    #[error("nothing says which Python packages version {version} of model {name:?} needs")]
    NoEnvironment { name: String, version: i64 },
    /// Python could not load the model.
    #[error("{model} could not be loaded: {}: {}", .raised.kind, .raised.message)]
    Load {
        model: String,
        raised: Raised,
        log: Vec<String>,
    },
    /// Loading took too long.
    #[error("{model} was not loaded after {} s", .after.as_secs())]
    LoadTimeout { model: String, after: Duration },
    /// The model's code raised an exception.
    #[error("{model} could not predict: {}: {}", .raised.kind, .raised.message)]
    Raised { model: String, raised: Raised },
    /// The model's worker died over this request.
    #[error("the worker of {model} {}", .death.how)]
    Died { model: String, death: Death },
    /// The worker died and is not yet started again.
    #[error("the worker of {model} died and is started again in {} s", .after.as_secs_f64().ceil())]
    Restarting { model: String, after: Duration },
    /// The last attempt to load the model has just failed.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
    /// Too many requests wait for this model.
    #[error("{waiting} requests wait for {model} already")]
    Busy { model: String, waiting: usize },
    /// The request took too long.
    #[error("{model} did not answer within {} ms", .after.as_millis())]
    Timeout { model: String, after: Duration },
    /// There are more rows than one call can carry.
    #[error("the request has more rows than one call of a model can carry")]
    TooManyRows,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Artifacts(#[from] tracking::Error),
    #[error("the sandbox of {model} could not be started")]
    Sandbox {
        model: String,
        source: sandbox::Error,
    },
    /// A file of the server itself cannot be used.
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
            Self::NoModels
            | Self::ModelNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::OtherVersion { .. } => Code::NotFound,
            Self::Inputs(_)
            | Self::NotAModel { .. }
            | Self::NoEnvironment { .. }
            | Self::Load { .. }
            | Self::Raised { .. } => Code::Unprocessable,
            Self::Environment { source, .. } if source.is_invalid_request() => Code::Unprocessable,
            Self::Environment { .. } | Self::Died { .. } => Code::BadGateway,
            Self::Restarting { .. }
            | Self::Busy { .. }
            | Self::Timeout { .. }
            | Self::LoadTimeout { .. }
            | Self::Stopping => Code::Unavailable,
            Self::NoFeatureStore => Code::NotImplemented,
            Self::Features(refused) => refused.code(),
            Self::TooManyRows => Code::TooLarge,
            Self::Shared(error) => error.code(),
            Self::Registry(error) => error.code(),
            Self::Artifacts(error) => error.code(),
            Self::Sandbox { .. } | Self::Io { .. } => Code::Internal,
        }
    }

    /// The stable name of the mistake, where it has one of its own.
    fn name(&self) -> &'static str {
        match self {
            Self::NoModels => "no_models",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::VersionNotFound { .. } | Self::OtherVersion { .. } => "version_not_found",
            Self::NotAModel { .. } => "not_a_model",
            Self::Environment { .. } | Self::NoEnvironment { .. } => "model_environment",
            Self::Load { .. } | Self::LoadTimeout { .. } => "model_load_failed",
            Self::Raised { .. } => "prediction_failed",
            Self::Died { .. } => "worker_died",
            Self::Restarting { .. } => "worker_restarting",
            Self::Busy { .. } => "model_busy",
            Self::Timeout { .. } => "prediction_timeout",
            other => other.code().name(),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoModels => "run a training script with 'asgard run train.py --model-name NAME', or log a model with registered_model_name=NAME".to_owned(),
            Self::ModelNotFound { existing, .. } => {
                format!("registered are, the nearest first: {}", existing.join(", "))
            }
            Self::VersionNotFound { name, .. } => format!(
                "GET /mlops/models/{name} lists its versions, stages and aliases; leave model_version out for the latest"
            ),
            Self::OtherVersion { .. } => "leave model_version out, or ask the server of that version".to_owned(),
            Self::NotAModel { .. } => "register what mlflow.<flavor>.log_model(model, \"model\") has logged: its folder holds an MLmodel file".to_owned(),
            Self::Environment { source, .. } => source.help()?.to_owned(),
            Self::NoEnvironment { .. } => "log the model with mlflow.<flavor>.log_model, which writes its requirements.txt beside it".to_owned(),
            Self::Load { raised, .. } => load_help(raised),
            Self::LoadTimeout { .. } => "raise serving.load_timeout_s, or log a smaller model".to_owned(),
            Self::Raised { .. } => "compare the request with a call of the same model in Python: mlflow.pyfunc.load_model(\"models:/NAME/VERSION\").predict(pandas.DataFrame(inputs)); 'details' has the traceback".to_owned(),
            Self::Died { death, .. } if death.how.contains("memory") => {
                "send fewer rows, log a smaller model, or raise serving.worker_memory_bytes".to_owned()
            }
            Self::Died { .. } => "the worker is started again for the next request; if this request kills it again, run the same inputs through the model in Python; 'details' has its last lines".to_owned(),
            Self::Restarting { .. } | Self::Busy { .. } => {
                "send the request again after the seconds in Retry-After".to_owned()
            }
            Self::Timeout { .. } => "send fewer rows, or raise serving.request_timeout_ms".to_owned(),
            Self::NoFeatureStore => "send all columns in inputs, or ask a server that was built with its feature store".to_owned(),
            Self::TooManyRows => "send the rows in several requests".to_owned(),
            _ => return None,
        })
    }

    fn details(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::NotAModel { files, .. } => json!({ "files": files }),
            Self::Environment { source, .. } => json!({ "output": source.output()? }),
            Self::Load { raised, log, .. } => {
                json!({ "traceback": raised.traceback, "log": log })
            }
            Self::Raised { raised, .. } => json!({ "traceback": raised.traceback }),
            Self::Died { death, .. } => json!({ "log": death.log }),
            _ => return None,
        })
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Restarting { after, .. } => Some(after.as_secs_f64().ceil().max(1.0) as u64),
            Self::Busy { .. } => Some(1),
            _ => None,
        }
    }
}

fn load_help(raised: &Raised) -> String {
    let module = raised.module.as_deref().unwrap_or_default();
    if !module.is_empty() {
        let package = module.split('.').next().unwrap_or(module);
        return format!(
            "the model needs the Python module {module:?}, which its environment does not have: add the package of {package:?} to the job's requirements (or to extra_pip_requirements of log_model), or ship your own code with code_paths, and train again"
        );
    }
    if raised.kind == "AttributeError" && raised.message.contains("__main__") {
        return "the model's class was defined in the training script and pickled by name: log it with mlflow.pyfunc.log_model or cloudpickle, or put the class in a file given as code_paths".to_owned();
    }
    "load the same version in Python with mlflow.pyfunc.load_model(\"models:/NAME/VERSION\") to see the same error; 'details' has the traceback".to_owned()
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Registry(error) => error.into(),
            Error::Artifacts(error) => error.into(),
            Error::Features(refused) => *refused,
            Error::Shared(error) => answer(&error),
            error => answer(&error),
        }
    }
}

fn answer(error: &Error) -> ApiError {
    if error.code() == Code::Internal {
        return ApiError::internal(error);
    }
    let mut answer = match error {
        Error::Inputs(problems) => ApiError::fields(problems.iter().map(field).collect()),
        Error::Environment { source, .. } => {
            ApiError::new(error.code(), format!("{error}: {source}"))
        }
        other => ApiError::new(other.code(), other.to_string()),
    }
    .named(error.name());
    if let Some(help) = error.help() {
        answer = answer.help(help);
    }
    if let Some(details) = error.details() {
        answer = answer.details(details);
    }
    if let Some(seconds) = error.retry_after_s() {
        answer = answer.retry_after(seconds);
    }
    answer
}

fn field(problem: &Problem) -> FieldError {
    let path = std::iter::once("inputs").chain(problem.column.as_deref());
    FieldError::body(path, problem.message.clone())
}
