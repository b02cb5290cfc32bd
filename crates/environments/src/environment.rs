//! A built environment.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox::Mount;

/// What an environment must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentRequest {
    pub requirements: Vec<String>,
    /// A Python version such as `3.11`; absent: the configured or preferred one.
    pub python: Option<String>,
    /// Modules to import at the end of a build, so that their bytecode exists.
    pub probe: Vec<String>,
}

/// How far [`crate::Environments::ensure`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Resolving,
    Installing { packages: usize },
    Probing,
    Ready { packages: usize, cached: bool },
}

/// A complete environment. Never written to again, and not removed while this is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// What the environment is made of, hashed; the same key is the same environment.
    pub key: String,
    /// The virtual environment's folder.
    pub root: PathBuf,
    /// The interpreter to run: `root/bin/python`.
    pub python: PathBuf,
    /// `3.11.7`
    pub python_version: String,
    /// Names and versions of what is installed, by name.
    pub packages: Vec<(String, String)>,
    pub(crate) lock: String,
    pub(crate) prefixes: Vec<PathBuf>,
    pub(crate) hold: Hold,
}

/// Keeps an environment from being removed while anybody has it: its description, with a lock
/// that others may share.
#[derive(Debug, Clone)]
pub(crate) struct Hold(pub(crate) Arc<File>);

impl PartialEq for Hold {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hold {}

impl Environment {
    /// A complete environment by its folder, whose name is its key; for processes that use one
    /// and have no store.
    pub fn at(root: &Path) -> Option<Self> {
        let key = root.file_name()?.to_str()?;
        crate::store::read(root, key)
    }

    /// What a sandbox must mount, read-only, to run [`Self::python`].
    pub fn mounts(&self) -> Vec<Mount> {
        std::iter::once(&self.root)
            .chain(&self.prefixes)
            .map(Mount::read_only)
            .collect()
    }

    /// The exact packages with their hashes, in the form of a requirements file.
    pub fn lock(&self) -> &str {
        &self.lock
    }

    /// What makes a copy of this environment complete on a machine whose interpreter lies below
    /// `/usr`: the name and the text of its description.
    pub fn described_elsewhere(&self) -> (&'static str, Vec<u8>) {
        crate::store::described(&self.python_version, &self.lock)
    }

    /// The folder of the environment's programs.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The base interpreter's folders outside of the environment.
    pub fn prefixes(&self) -> &[PathBuf] {
        &self.prefixes
    }
}
