//! What can go wrong with an image.

use std::path::PathBuf;

use crate::digest::Digest;

/// A failure to build, write or push an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{text:?} is no name of an image: it {reason}")]
    Reference { text: String, reason: String },
    /// The settings do not fit together.
    #[error("{message}")]
    Config { message: String, help: String },
    /// The base image is not one to build on.
    #[error("the base image {base} {reason}")]
    Base {
        base: String,
        reason: String,
        help: String,
    },
    #[error("cannot {attempt}")]
    Io {
        attempt: String,
        source: std::io::Error,
    },
    /// A file changed between two readings of it.
    #[error("the {layer} changed while the image was built")]
    Changed { layer: &'static str },
    /// The registry does not know the caller, or refuses what it wants.
    #[error("the registry {host} refuses to {attempt}: {reason}")]
    Denied {
        host: String,
        attempt: String,
        reason: String,
        help: String,
    },
    #[error("the registry {host} has no {what}")]
    NotFound { host: String, what: String },
    /// No connection, or none that lasted.
    #[error("the registry {host} does not answer when asked to {attempt}")]
    Unreachable {
        host: String,
        attempt: String,
        source: reqwest::Error,
    },
    /// An answer that is not what the distribution specification says.
    #[error("the registry {host} cannot {attempt}: {reason}")]
    Refused {
        host: String,
        attempt: String,
        reason: String,
    },
    #[error("what {from} gave for {expected} has the digest {found}")]
    Digest {
        from: String,
        expected: Digest,
        found: Digest,
    },
}

impl Error {
    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Config { help, .. } | Self::Base { help, .. } | Self::Denied { help, .. } => {
                Some(help)
            }
            Self::Reference { .. } => Some("write it like registry.example.org/team/model:3"),
            Self::Changed { .. } => Some("build it again"),
            Self::NotFound { .. } => {
                Some("check the name; a registry may also answer so when credentials are missing")
            }
            Self::Unreachable { .. } => Some(
                "check the name and the network; a registry without TLS must be in images.plain_http, one of a private authority needs images.ca_file",
            ),
            Self::Digest { .. } => {
                Some("a proxy or the registry alters what passes; ask who runs it")
            }
            Self::Io { .. } | Self::Refused { .. } => None,
        }
    }

    /// Whether the registry or the way to it is at fault, rather than the request or this machine.
    pub fn is_registry(&self) -> bool {
        matches!(
            self,
            Self::Denied { .. }
                | Self::NotFound { .. }
                | Self::Unreachable { .. }
                | Self::Refused { .. }
                | Self::Digest { .. }
        )
    }

    pub(crate) fn io(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io { attempt, source }
    }

    pub(crate) fn file(
        attempt: &str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        Self::io(format!("{attempt} {}", path.into().display()))
    }
}
