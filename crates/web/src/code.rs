//! The closed list of what can be wrong with a request, and its HTTP status.

use axum::http::StatusCode;

/// Why a request was not served. Domain errors choose one; only this crate knows HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NotFound,
    AlreadyExists,
    /// The request itself is wrong (400).
    Invalid,
    /// The request is well formed but its content is refused (422).
    Unprocessable,
    UnsupportedMediaType,
    TooLarge,
    Unauthenticated,
    Forbidden,
    Conflict,
    TooMany,
    /// Something asgard needs does not answer now; trying again may help (503).
    Unavailable,
    /// There is no room left to store it (507).
    InsufficientStorage,
    /// Another system that the request names failed (502).
    BadGateway,
    NotImplemented,
    Internal,
}

impl Code {
    /// The HTTP status of asgard's own routes.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Conflict => StatusCode::CONFLICT,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The machine-readable `code` of the error envelope, unless the domain gives a finer one.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Invalid => "invalid",
            Self::Unprocessable => "validation_error",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Conflict => "conflict",
            Self::TooMany => "too_many_requests",
            Self::Unavailable => "unavailable",
            Self::InsufficientStorage => "insufficient_storage",
            Self::BadGateway => "bad_gateway",
            Self::NotImplemented => "not_implemented",
            Self::Internal => "internal",
        }
    }

    /// The short title of the error envelope.
    pub fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::AlreadyExists => "Already exists",
            Self::Invalid => "Bad request",
            Self::Unprocessable => "Validation failed",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::TooLarge => "Too large",
            Self::Unauthenticated => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::Conflict => "Conflict",
            Self::TooMany => "Too many requests",
            Self::Unavailable => "Unavailable",
            Self::InsufficientStorage => "Out of disk space",
            Self::BadGateway => "Bad gateway",
            Self::NotImplemented => "Not implemented",
            Self::Internal => "Internal error",
        }
    }

    /// MLflow's `error_code` and its HTTP status (`mlflow/protos/databricks.proto`,
    /// `mlflow/exceptions.py`): a name that is taken is a 400 there.
    pub fn mlflow(self) -> (&'static str, StatusCode) {
        match self {
            Self::NotFound => ("RESOURCE_DOES_NOT_EXIST", StatusCode::NOT_FOUND),
            Self::AlreadyExists => ("RESOURCE_ALREADY_EXISTS", StatusCode::BAD_REQUEST),
            Self::Invalid | Self::Unprocessable => {
                ("INVALID_PARAMETER_VALUE", StatusCode::BAD_REQUEST)
            }
            Self::UnsupportedMediaType => ("BAD_REQUEST", StatusCode::BAD_REQUEST),
            Self::TooLarge => ("BAD_REQUEST", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Unauthenticated => ("UNAUTHENTICATED", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("PERMISSION_DENIED", StatusCode::FORBIDDEN),
            Self::Conflict => ("RESOURCE_CONFLICT", StatusCode::CONFLICT),
            Self::TooMany => ("REQUEST_LIMIT_EXCEEDED", StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable | Self::BadGateway => {
                ("TEMPORARILY_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE)
            }
            // A status that MLflow's clients do not try again.
            Self::InsufficientStorage => ("RESOURCE_EXHAUSTED", StatusCode::INSUFFICIENT_STORAGE),
            Self::NotImplemented => ("NOT_IMPLEMENTED", StatusCode::NOT_IMPLEMENTED),
            Self::Internal => ("INTERNAL_ERROR", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}
