//! The ladder of isolation, and the mechanisms it is made of.

use serde::Serialize;

/// How user code is kept apart, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Private files, processes and network, a system call filter, and control groups that bound
    /// memory, processor and processes of the whole tree.
    Strict,
    /// As strict, but the memory of the tree is sampled rather than bounded by the kernel.
    User,
    /// The machine's files and processes are visible to the process, Landlock refuses most.
    Landlock,
    /// Only a process group and resource limits.
    None,
}

impl Level {
    /// The level as it is written in answers and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::User => "user",
            Self::Landlock => "landlock",
            Self::None => "none",
        }
    }

    /// Whether the process sees only the files it was given, at the paths it was given.
    pub fn has_private_files(self) -> bool {
        matches!(self, Self::Strict | Self::User)
    }

    /// Whether the process has a network of its own, with doors instead of ports.
    pub fn has_private_network(self) -> bool {
        matches!(self, Self::Strict | Self::User)
    }
}

/// One mechanism of this machine, tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mechanism {
    pub name: &'static str,
    pub available: bool,
    /// What was found, or why it does not work.
    pub detail: String,
    /// What to do to get it.
    pub fix: Option<String>,
}

impl Mechanism {
    /// A mechanism that works.
    pub fn available(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            available: true,
            detail: detail.into(),
            fix: None,
        }
    }

    /// A mechanism that does not, with the reason and what to do.
    pub fn missing(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            available: false,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }
}
