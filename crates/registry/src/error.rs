//! What can go wrong in the registry.

use serde_json::json;
use web::{ApiError, Code, MlflowError};

/// A failure of the registry, in the words that MLflow's clients and tests know.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no registered model of this name.
    #[error("Registered Model with name={0} not found")]
    ModelNotFound(String),
    /// The model has no such version.
    #[error("Model Version (name={name}, version={version}) not found")]
    VersionNotFound { name: String, version: String },
    /// The model has no such alias.
    #[error("Registered model alias {alias} not found.")]
    AliasNotFound { name: String, alias: String },
    /// Another registered model has this name.
    #[error("Registered Model (name={0}) already exists.")]
    ModelExists(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A job adds a version to a model that is not its own.
    #[error(
        "Registered Model with name={name} does not belong to job {job_id}: its upload did not name the model and its script did not make it; upload the script with this model_name, or register under a name that is still free"
    )]
    NotOwnModel { name: String, job_id: String },
    /// A job takes an alias or a stage from a version of others.
    #[error(
        "{what} of model {name:?} is held by version {version}, which job {job_id} did not make; it moves when an editor moves it, or when the script is uploaded with an editor's key"
    )]
    NotPromoted {
        /// `the alias "champion"`.
        what: String,
        name: String,
        version: i64,
        job_id: String,
    },
    /// A version's source is not a place that a version may have.
    #[error("Invalid model version source: '{source_uri}'. {reason}")]
    Source {
        source_uri: String,
        reason: &'static str,
    },
    /// The files of a version are not in this server's artifact store.
    #[error(
        "the files of version {version} of model {name:?} are at {location:?}, which is not in this server's artifact store"
    )]
    Elsewhere {
        name: String,
        version: i64,
        location: String,
    },
    /// A run or logged model that was to be registered holds no model.
    #[error("{subject} holds no model: there is no MLmodel file in {searched}")]
    NoModel {
        subject: String,
        searched: String,
        /// What is there instead.
        artifacts: Vec<String>,
    },
    /// Tracking failed, or refused.
    #[error(transparent)]
    Tracking(#[from] tracking::Error),
    /// An event could not be noted for webhooks.
    #[error("noting the event for webhooks failed")]
    Webhooks(#[from] webhooks::Error),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] db::Error),
}

impl Error {
    /// Whether an external MLflow server is away for now.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Tracking(error) if error.is_away())
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        match self {
            Self::ModelNotFound(_) | Self::VersionNotFound { .. } | Self::AliasNotFound { .. } => {
                Code::NotFound
            }
            Self::ModelExists(_) => Code::AlreadyExists,
            Self::Invalid(_) | Self::Source { .. } => Code::Invalid,
            Self::NotOwnModel { .. } | Self::NotPromoted { .. } => Code::Forbidden,
            Self::NoModel { .. } | Self::Elsewhere { .. } => Code::Unprocessable,
            Self::Tracking(error) => error.code(),
            Self::Webhooks(error) => error.code(),
            Self::Db(error) if error.is_full() => Code::InsufficientStorage,
            Self::Db(error) if error.is_refused_text() => Code::Invalid,
            Self::Db(error) if error.is_unavailable() => Code::Unavailable,
            Self::Db(_) => Code::Internal,
        }
    }

    fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::ModelNotFound(_) => {
                "GET /mlops/models lists the registered models; a training job registers one under its model_name"
            }
            Self::VersionNotFound { .. } => {
                "GET /mlops/models/{name} lists the versions; leave the version out for the latest one"
            }
            Self::AliasNotFound { .. } => {
                "GET /mlops/models/{name} lists the aliases; MlflowClient().set_registered_model_alias(name, alias, version) makes one"
            }
            Self::ModelExists(_) => "choose another name, or add a version to the existing model",
            Self::NotOwnModel { .. } => {
                "upload the script with this model_name, or register the run by hand after the job with POST /mlops/registry {model_name, run_id}"
            }
            Self::Source { .. } => {
                "use runs:/RUN_ID/PATH, models:/MODEL_ID or the artifact URI that log_model answered"
            }
            Self::Elsewhere { .. } => "log the model to this server and register it from there",
            Self::NoModel { .. } => {
                "log the model with mlflow.<flavor>.log_model(model, \"model\") and register the run again"
            }
            _ => return None,
        })
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Tracking(error) => return of_tracking(error),
            error => error,
        };
        let mut answer = match error.code() {
            Code::Internal => return Self::internal(&error),
            Code::InsufficientStorage => return Self::storage_full(&error),
            Code::Unavailable => {
                tracing::warn!(%error, "the registry's database does not answer");
                Self::new(Code::Unavailable, "the database does not answer now").retry_after(1)
            }
            Code::Invalid if matches!(error, Error::Db(_)) => return Self::nul(),
            code => Self::new(code, error.to_string()),
        };
        if let Some(help) = error.help() {
            answer = answer.help(help);
        }
        match error {
            Error::ModelNotFound(_) => answer.named("model_not_found"),
            Error::VersionNotFound { .. } => answer.named("version_not_found"),
            Error::AliasNotFound { .. } => answer.named("alias_not_found"),
            Error::NoModel { artifacts, .. } => answer
                .named("no_model")
                .details(json!({ "artifacts": artifacts })),
            _ => answer,
        }
    }
}

fn of_tracking(error: tracking::Error) -> ApiError {
    let help = match &error {
        tracking::Error::RunNotFound(_) => {
            Some("the run_id is the one that mlflow.start_run() gives: run.info.run_id")
        }
        tracking::Error::LoggedModelNotFound(_) => {
            Some("the model_id is the one that log_model gives: model_info.model_id")
        }
        _ => None,
    };
    let answer = ApiError::from(error);
    match help {
        Some(help) => answer.help(help),
        None => answer,
    }
}

impl From<Error> for MlflowError {
    fn from(error: Error) -> Self {
        match error {
            // MLflow answers 400 to an alias that does not exist.
            Error::AliasNotFound { .. } => ApiError::new(Code::Invalid, error.to_string()).into(),
            error => ApiError::from(error).into(),
        }
    }
}
