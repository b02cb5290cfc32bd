//! Errors as the Feast SDK raises them again: class and message in JSON
//! (`feast/errors.py`, `FeastError.from_error_detail`).

use serde_json::json;
use web::Code;

use crate::error::{Error, Kind};

/// The JSON of which the SDK makes an exception.
pub(super) fn detail(error: &Error) -> String {
    let message = match error.help() {
        Some(help) => format!("{}; {help}", error.message()),
        None => error.message(),
    };
    let message = match error.code() {
        Code::Internal => {
            tracing::error!(error = %error.message(), "a Feast request failed inside");
            "the server failed while answering this request".to_owned()
        }
        Code::InsufficientStorage => {
            tracing::error!(error = %error.message(), "there is no room left on the disk");
            "there is no room left on the server's disk: nothing of this request was stored"
                .to_owned()
        }
        _ => message,
    };
    json!({"module": "feast.errors", "class": class(error), "message": message}).to_string()
}

fn class(error: &Error) -> &'static str {
    match error {
        Error::NotFound { kind, .. } => match kind {
            Kind::Entity => "EntityNotFoundException",
            Kind::FeatureService => "FeatureServiceNotFoundException",
            Kind::DataSource => "DataSourceObjectNotFoundException",
            Kind::Project => "ProjectObjectNotFoundException",
            Kind::Other("saved_dataset") => "SavedDatasetNotFound",
            Kind::Other("validation_reference") => "ValidationReferenceNotFound",
            Kind::Other("permission") => "PermissionObjectNotFoundException",
            Kind::FeatureView | Kind::Other(_) => "FeatureViewNotFoundException",
        },
        Error::UnknownFeature { .. } => "SpecifiedFeaturesNotPresentError",
        Error::RequestData { .. } => "RequestDataNotFoundInEntityDfException",
        Error::TableExists(_) => "SavedDatasetLocationAlreadyExists",
        Error::Forbidden(_) => "FeastPermissionError",
        Error::UnknownTable { .. } => "DataSourceNotFoundException",
        _ => "FeastError",
    }
}
