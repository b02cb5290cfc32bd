//! The two error bodies: asgard's envelope and MLflow's.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::code::Code;

/// One field of a refused request, in the form that FastAPI clients know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where: `["body", "inputs", "sepal_length"]`.
    pub loc: Vec<String>,
    /// What is wrong and what is expected.
    pub msg: String,
    /// A stable name of the kind of mistake.
    #[serde(rename = "type")]
    pub kind: String,
}

impl FieldError {
    /// A mistake in the body at `path`.
    pub fn body<S: Into<String>>(
        path: impl IntoIterator<Item = S>,
        msg: impl Into<String>,
    ) -> Self {
        let loc = std::iter::once("body".to_owned())
            .chain(path.into_iter().map(Into::into))
            .collect();
        Self {
            loc,
            msg: msg.into(),
            kind: "value_error".to_owned(),
        }
    }

    /// A mistake in a parameter of the query string.
    pub fn query(name: &str, msg: impl Into<String>) -> Self {
        Self {
            loc: vec!["query".to_owned(), name.to_owned()],
            msg: msg.into(),
            kind: "value_error".to_owned(),
        }
    }
}

impl From<FieldError> for ApiError {
    fn from(field: FieldError) -> Self {
        Self::fields(vec![field])
    }
}

/// An error of asgard's own routes. Its body holds `error message details help code request_id`
/// and `detail` (the message, or for 422 the list of fields).
#[derive(Debug, Clone)]
pub struct ApiError(Box<Content>);

#[derive(Debug, Clone)]
struct Content {
    code: Code,
    name: &'static str,
    title: Option<String>,
    message: String,
    details: Option<Value>,
    help: Option<String>,
    fields: Vec<FieldError>,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error with a message that names the cause.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Content {
            code,
            name: code.name(),
            title: None,
            message: message.into(),
            details: None,
            help: None,
            fields: Vec::new(),
            retry_after_s: None,
        }))
    }

    /// A 422 about fields of the body.
    pub fn fields(fields: Vec<FieldError>) -> Self {
        let message = fields
            .iter()
            .map(|f| match f.loc.get(1..) {
                Some(path) if !path.is_empty() => format!("{}: {}", path.join("."), f.msg),
                _ => f.msg.clone(),
            })
            .collect::<Vec<_>>()
            .join("; ");
        let mut error = Self::new(Code::Unprocessable, message)
            .help("mend what is named and send the request again; /docs describes every field");
        error.0.fields = fields;
        error
    }

    /// A 507: nothing of the request was stored.
    pub fn storage_full(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "there is no room left on the disk");
        Self::new(
            Code::InsufficientStorage,
            "there is no room left on the server's disk: nothing of this request was stored",
        )
        .help("free some space, or move the data directory or the artifact store to a larger disk; 'asgard doctor' shows what is kept")
    }

    /// A 400 for a text of the request that no database keeps.
    pub fn nul() -> Self {
        Self::new(
            Code::Invalid,
            "a text of the request holds a NUL character (\\u0000)",
        )
        .help("leave it out: names, tags and descriptions are text without it")
    }

    /// A mistake of the server. The cause goes to the log, never to the caller.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "a request failed inside");
        Self::new(
            Code::Internal,
            "the server failed while answering this request",
        )
        .help("the server's log has the cause under this request_id")
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Gives a finer machine-readable code.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.0.name = name;
        self
    }

    /// Gives the short title.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.0.title = Some(title.into());
        self
    }

    /// Adds what was found: a traceback, a list of artifacts.
    #[must_use]
    pub fn details(mut self, details: impl Into<Value>) -> Self {
        self.0.details = Some(details.into());
        self
    }

    /// Tells when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// The kind of error.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What to do next, if the error says.
    pub(crate) fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    fn body(&self) -> Value {
        let detail = if self.0.fields.is_empty() {
            json!(self.0.message)
        } else {
            json!(self.0.fields)
        };
        json!({
            "detail": detail,
            "error": self.0.title.as_deref().unwrap_or(self.0.code.title()),
            "message": self.0.message,
            "details": self.0.details,
            "help": self.0.help,
            "code": self.0.name,
            "request_id": crate::extract::current_request_id(),
        })
    }
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.0.code.status(), axum::Json(self.body())).into_response();
        challenge(self.0.code, &mut response);
        if let Some(seconds) = self.0.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An error of the MLflow routes: `{"error_code", "message"}`.
#[derive(Debug, Clone)]
pub struct MlflowError {
    error_code: &'static str,
    status: StatusCode,
    message: String,
    code: Option<Code>,
}

impl MlflowError {
    /// The MLflow shape of an error.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (error_code, status) = code.mlflow();
        Self {
            error_code,
            status,
            message: message.into(),
            code: Some(code),
        }
    }

    /// An error with a code that only MLflow has, such as `ENDPOINT_NOT_FOUND`.
    pub fn raw(status: StatusCode, error_code: &'static str, message: impl Into<String>) -> Self {
        Self {
            error_code,
            status,
            message: message.into(),
            code: None,
        }
    }
}

impl MlflowError {
    /// The same error with its help in the message: MLflow's clients show nothing else.
    pub fn with_help(error: ApiError) -> Self {
        match &error.0.help {
            Some(help) => Self::new(error.0.code, format!("{}; {help}", error.0.message)),
            None => Self::from(error),
        }
    }
}

impl From<ApiError> for MlflowError {
    fn from(error: ApiError) -> Self {
        Self::new(error.0.code, error.0.message)
    }
}

impl IntoResponse for MlflowError {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.error_code, "message": self.message });
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(code) = self.code {
            challenge(code, &mut response);
        }
        response
    }
}

fn challenge(code: Code, response: &mut Response) {
    if code == Code::Unauthenticated {
        let headers = response.headers_mut();
        // A line each: Chromium reads no second challenge in one line, and asks for no password.
        for challenge in ["Bearer", "Basic realm=\"asgard\""] {
            headers.append(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
    }
}
