//! The `[sandbox]` section of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How strongly user code is kept apart from the machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The weakest isolation that is acceptable.
    pub isolation: Isolation,
    /// The `bwrap` program; absent: looked for in the usual system folders.
    pub bwrap: Option<PathBuf>,
}

/// The weakest isolation that is acceptable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, system call filter and control groups, or no start.
    Strict,
    /// The strongest that works here; never none.
    #[default]
    BestEffort,
    /// No isolation: user code is this server's user. For one trusted developer.
    None,
}

impl Isolation {
    /// The value as it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::BestEffort => "best_effort",
            Self::None => "none",
        }
    }
}
