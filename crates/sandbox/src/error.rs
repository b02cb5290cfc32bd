//! What can go wrong around a sandboxed process.

use std::path::PathBuf;

/// A failure of the sandbox itself; a failing program inside is an [`crate::Exit`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No level that the configuration accepts works on this machine.
    #[error(
        "no isolation of user code that sandbox.isolation = {wanted} accepts works here: {tried}"
    )]
    Unavailable {
        wanted: &'static str,
        /// Each mechanism that failed, and why.
        tried: String,
        fix: String,
    },
    /// A path of the specification cannot be used.
    #[error("cannot give {path} to a sandbox: {reason}")]
    Path { path: PathBuf, reason: String },
    /// The process could not be started.
    #[error("cannot {attempt}")]
    Start {
        attempt: String,
        source: std::io::Error,
    },
    /// The launcher ended before the program began.
    #[error("the sandbox could not be set up: {0}")]
    Setup(String),
    /// The process was started, but its end could not be learnt.
    #[error("a process was lost")]
    Lost(#[source] std::sync::Arc<Error>),
    /// The threads of this sandbox have ended: the server is stopping.
    #[error("the sandbox has been shut down")]
    Closed,
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Unavailable { fix, .. } => Some(fix),
            _ => None,
        }
    }

    pub(crate) fn start(attempt: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Start {
            attempt: attempt.into(),
            source: source.into(),
        }
    }
}
