//! Installing MLflow's page from the wheel on the package index.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::assets::{Assets, INDEX};
use super::{IN_PACKAGE, installed};

/// A page that was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub folder: PathBuf,
    pub files: usize,
}

/// Why the page was not installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a version of mlflow, such as 3.18.0")]
    Version(String),
    #[error("the wheel of mlflow {0} holds no page")]
    NoPage(String),
    #[error("cannot {attempt} {path}")]
    File {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot fetch mlflow from the package index")]
    Fetch(#[from] environments::Error),
}

/// Fetches the wheel of that version and keeps its page, with the licence, in the data directory,
/// in place of the one that was there. A running server shows it from then on.
///
/// # Errors
/// When the wheel cannot be had, has no page, or the data directory cannot be written.
pub async fn install(
    config: &environments::Config,
    data_dir: &Path,
    version: &str,
) -> Result<Installed, Error> {
    let is_version = version.starts_with(|c: char| c.is_ascii_digit())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.');
    if !is_version {
        return Err(Error::Version(version.to_owned()));
    }
    let place = installed(data_dir);
    let tools = place.parent().unwrap_or(data_dir);
    fs::create_dir_all(tools).map_err(|e| file("make the folder", tools, e))?;
    let scratch = tempfile::Builder::new()
        .prefix(".mlflow-ui-")
        .tempdir_in(tools);
    let scratch = scratch.map_err(|e| file("make a folder in", tools, e))?;
    let wheel = scratch.path().join("wheel");
    environments::unpack_wheel(config, data_dir, &format!("mlflow=={version}"), &wheel).await?;
    let new = keep_page(&wheel, &scratch.path().join("new"), version)?;
    replace(&new, &place, &scratch.path().join("old"))?;
    let folder = place.join("build");
    let assets = Assets::read(&folder, SystemTime::now());
    let files = assets.map_err(|e| file("read", &folder, e))?.len();
    Ok(Installed { folder, files })
}

/// Moves the page and the licences out of an unpacked wheel.
fn keep_page(wheel: &Path, new: &Path, version: &str) -> Result<PathBuf, Error> {
    let build = wheel.join("mlflow").join(IN_PACKAGE);
    if !build.join(INDEX).is_file() {
        return Err(Error::NoPage(version.to_owned()));
    }
    fs::create_dir(new).map_err(|e| file("make the folder", new, e))?;
    fs::rename(&build, new.join("build")).map_err(|e| file("move", &build, e))?;
    let about = wheel.join(format!("mlflow-{version}.dist-info"));
    for folder in [about.join("licenses"), about] {
        for name in ["LICENSE", "LICENSE.txt", "NOTICE", "NOTICE.txt"] {
            let licence = folder.join(name);
            if licence.is_file() {
                fs::rename(&licence, new.join(name)).map_err(|e| file("move", &licence, e))?;
            }
        }
    }
    Ok(new.to_owned())
}

fn replace(new: &Path, place: &Path, old: &Path) -> Result<(), Error> {
    match fs::rename(place, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("move away", place, error));
        }
        _ => {}
    }
    fs::rename(new, place).map_err(|e| file("put the page at", place, e))
}

fn file(attempt: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        attempt,
        path: path.to_owned(),
        source,
    }
}
