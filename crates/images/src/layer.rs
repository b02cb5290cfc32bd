//! The layers that asgard makes: what is in them, and what they are called when nothing in them
//! changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use environments::Environment;
use sha2::{Digest as _, Sha256};

use crate::compress::Compression;
use crate::digest::hex;
use crate::error::Error;
use crate::tree::Tree;

/// Where an image holds what asgard puts into it.
pub(crate) const PROGRAM: &str = "asgard/bin/asgard";
pub(crate) const MODEL: &str = "asgard/model";
pub(crate) const PROOF: &str = "asgard/proof";
const ENVIRONMENTS: &str = "asgard/environments";

/// Changes when the same content would be written as other bytes.
const WRITER: &str = "2";

/// How a layer is made.
#[derive(Debug, Clone)]
pub(crate) enum Recipe {
    /// A Python environment on an interpreter of the base image.
    Environment {
        environment: Environment,
        interpreter: PathBuf,
    },
    /// This program, by the digest of its file.
    Program { file: PathBuf, digest: String },
    /// A model's folder, and what is proven about it. Its files may change, so nothing is remembered.
    Model {
        folder: PathBuf,
        proof: Option<PathBuf>,
    },
    /// Folders that the image's user may write, where a volume may be mounted.
    Folder { path: &'static str },
}

impl Recipe {
    /// For logs and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Environment { .. } => "environment",
            Self::Program { .. } => "program",
            Self::Model { .. } => "model",
            Self::Folder { .. } => "data folder",
        }
    }

    /// The same key is the same layer, byte by byte.
    pub(crate) fn key(&self, compression: Compression) -> Option<String> {
        let content = match self {
            Self::Environment {
                environment,
                interpreter,
            } => format!("environment {} {}", environment.key, interpreter.display()),
            Self::Program { digest, .. } => format!("program {digest}"),
            Self::Folder { path } => format!("folder {path}"),
            Self::Model { .. } => return None,
        };
        let text = format!("{WRITER} {} {content}", compression.name());
        Some(hex(Sha256::digest(text).as_slice()))
    }

    pub(crate) fn tree(&self) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        match self {
            Self::Environment {
                environment,
                interpreter,
            } => environment_tree(&mut tree, environment, interpreter)?,
            Self::Program { file, .. } => tree.program(PROGRAM, file),
            Self::Model { folder, proof } => {
                tree.all_of(folder, Path::new(MODEL), &|_| false)
                    .map_err(Error::file("read the model's folder", folder))?;
                if let Some(proof) = proof {
                    match File::open(proof) {
                        Ok(file) => tree.held(PROOF, file),
                        // It made room for others meanwhile; the pods make their own.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(Error::file("read the proof", proof)(error)),
                    }
                }
            }
            Self::Folder { path } => tree.writable_folder(path),
        }
        Ok(tree)
    }
}

/// Where an environment is in an image.
pub(crate) fn environment_path(environment: &Environment) -> PathBuf {
    Path::new(ENVIRONMENTS).join(&environment.key)
}

/// An environment without what names this machine: its interpreter and uv's own notes.
fn environment_tree(
    tree: &mut Tree,
    environment: &Environment,
    interpreter: &Path,
) -> Result<(), Error> {
    let place = environment_path(environment);
    let (description, text) = environment.described_elsewhere();
    let skip = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let top = path.parent() == Some(Path::new(""));
        let in_bin = path.parent() == Some(Path::new("bin"));
        let of_uv = [".lock", ".gitignore", "CACHEDIR.TAG", "pyvenv.cfg"];
        let replaced = name == description || of_uv.contains(&&*name);
        (top && replaced) || (in_bin && is_of_this_machine(&name))
    };
    tree.all_of(&environment.root, &place, &skip)
        .map_err(Error::file("read the environment", &environment.root))?;
    let home = interpreter.parent().unwrap_or(Path::new("/usr/bin"));
    let settings = format!(
        "home = {}\nimplementation = CPython\nversion_info = {}\ninclude-system-site-packages = false\n",
        home.display(),
        environment.python_version,
    );
    tree.bytes(place.join("pyvenv.cfg"), settings.into_bytes());
    tree.bytes(place.join(description), text);
    tree.link(place.join("bin/python"), interpreter);
    tree.link(place.join("bin/python3"), "python");
    if let Some(name) = interpreter.file_name().filter(|name| *name != "python3") {
        tree.link(place.join("bin").join(name), "python");
    }
    Ok(())
}

/// The interpreter's names, and scripts for shells.
fn is_of_this_machine(name: &str) -> bool {
    let python = name
        .strip_prefix("python")
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    python || name.starts_with("activate") || name.starts_with("deactivate") || name == "pydoc.bat"
}
