//! One PEP 508 requirement.

use std::fmt;

/// One requirement: `scikit-learn[extra]>=1.4; python_version >= "3.10"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    name: String,
    text: String,
}

impl Requirement {
    /// The normalised project name (PEP 503).
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
