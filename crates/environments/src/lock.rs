//! The exact packages that a list of requirements means.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::interpreter::Interpreter;
use crate::uv::Uv;

/// Changes when environments are built in another way, so that old ones are not taken for new.
const RECIPE: &str = "1";

/// Packages with versions and hashes, in the form of a requirements file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) text: String,
}

impl Lock {
    /// Names and versions, by name.
    pub(crate) fn packages(&self) -> Vec<(String, String)> {
        let mut packages: Vec<(String, String)> = self
            .text
            .lines()
            .filter(|line| !line.starts_with([' ', '#', '-']))
            .filter_map(|line| {
                let requirement = line.trim_end_matches('\\').split(';').next()?;
                let (name, version) = requirement.split_once("==")?;
                Some((name.trim().to_owned(), version.trim().to_owned()))
            })
            .collect();
        packages.sort();
        packages
    }

    /// The name of the environment that holds these packages under this interpreter.
    pub(crate) fn key(&self, interpreter: &Interpreter, uv: &Uv) -> String {
        digest(&[
            "environment",
            RECIPE,
            &uv.version,
            &interpreter.identity,
            &interpreter.executable.to_string_lossy(),
            &self.text,
        ])
    }
}

/// SHA-256 over parts, each with its length before it, as 64 hex digits.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_a_lock() {
        let lock = Lock {
            text: "six==1.17.0 \\\n    --hash=sha256:47 \\\n    --hash=sha256:ff\nnumpy==2.1.0 ; python_version < \"3.12\" \\\n    --hash=sha256:00\n".to_owned(),
        };
        let packages = lock.packages();
        let pairs: Vec<(&str, &str)> = packages
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, [("numpy", "2.1.0"), ("six", "1.17.0")]);
    }

    #[test]
    fn parts_are_not_run_together() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]).len(), 64);
    }
}
