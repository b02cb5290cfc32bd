//! What can go wrong with an environment.

use std::path::PathBuf;

/// A failure to make an environment ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry of a requirement list is not one PEP 508 requirement.
    #[error("requirement {entry:?} {reason}")]
    Requirement {
        entry: String,
        reason: String,
        help: String,
    },
    /// The list cannot be met: an unknown package, no such version, a conflict.
    #[error("{message}")]
    Unsatisfiable {
        message: String,
        help: String,
        /// uv's own words.
        output: String,
    },
    /// No fitting Python interpreter.
    #[error("no Python {wanted} was found: {found}")]
    Python {
        wanted: String,
        found: String,
        help: String,
    },
    /// uv is not there and could not be installed.
    #[error("uv, which builds Python environments, {reason}")]
    Uv { reason: String, help: String },
    /// The package index cannot be reached.
    #[error("the package index does not answer: {message}")]
    Index { message: String, output: String },
    /// uv or the interpreter failed in a way that is not the request's fault.
    #[error("{attempt} failed: {message}")]
    Build {
        attempt: &'static str,
        message: String,
        output: String,
    },
    /// A build took longer than `environments.build_timeout_s`.
    #[error("{attempt} took longer than {seconds} s and was stopped")]
    Timeout { attempt: &'static str, seconds: u64 },
    /// A file of the environment store cannot be used.
    #[error("cannot {attempt} {path}")]
    Store {
        attempt: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Another request was building the same environment and failed.
    #[error(transparent)]
    Shared(std::sync::Arc<Error>),
}

impl Error {
    pub(crate) fn stopping() -> Self {
        Self::Build {
            attempt: "making an environment ready",
            message: "the server is stopping".to_owned(),
            output: String::new(),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Requirement { help, .. }
            | Self::Unsatisfiable { help, .. }
            | Self::Python { help, .. }
            | Self::Uv { help, .. } => Some(help),
            Self::Index { .. } => Some(
                "check the network, environments.index_url and SSL_CERT_FILE; environments that were built before work without a network",
            ),
            Self::Timeout { .. } => Some("raise environments.build_timeout_s"),
            Self::Sandbox(error) => error.help(),
            Self::Shared(error) => error.help(),
            Self::Build { .. } | Self::Store { .. } => None,
        }
    }

    /// The whole output of the failed command, for a job's log.
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::Unsatisfiable { output, .. }
            | Self::Index { output, .. }
            | Self::Build { output, .. } => Some(output),
            Self::Shared(error) => error.output(),
            _ => None,
        }
    }

    /// Whether the request is wrong (a 4xx), rather than this machine.
    pub fn is_invalid_request(&self) -> bool {
        match self {
            Self::Requirement { .. } | Self::Unsatisfiable { .. } | Self::Python { .. } => true,
            Self::Shared(error) => error.is_invalid_request(),
            _ => false,
        }
    }
}
