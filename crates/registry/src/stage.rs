//! The stages of a version, which MLflow had before aliases.

use crate::error::Error;

/// The stage of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    None,
    Staging,
    Production,
    Archived,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    /// MLflow's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// Reads a stage in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str().eq_ignore_ascii_case(text))
    }

    /// Reads a stage in any case, or says which there are.
    pub(crate) fn required(text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| {
            Error::Invalid(format!(
                "Invalid Model Version stage: {text}. Value must be one of None, Staging, \
                 Production, Archived."
            ))
        })
    }

    /// Whether versions in it are in use.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Staging | Self::Production)
    }
}
