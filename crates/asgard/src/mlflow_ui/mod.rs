//! MLflow's own web page, from the files of an installed mlflow wheel: asgard has none of them.

mod assets;
mod install;
mod paths;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use assets::{Asset, Assets, INDEX};
pub use install::{Error as InstallError, Installed, install};
pub use paths::{at_the_root, below_its_path};

/// The release whose page is installed when nobody names another: the one that asgard is tested
/// with.
pub const TESTED_VERSION: &str = "3.18.0";

/// Where a wheel keeps the page.
const IN_PACKAGE: &str = "server/js/build";

/// The page, when there is one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MlflowUi {
    /// What `tracking.mlflow_ui` leads to.
    configured: Option<PathBuf>,
    installed: PathBuf,
    known: Arc<Mutex<Option<Arc<Assets>>>>,
}

/// `tracking.mlflow_ui` leads to no page.
#[derive(Debug, thiserror::Error)]
#[error(
    "tracking.mlflow_ui = {0:?} holds no MLflow page: there is no index.html in it, nor in server/js/build of an mlflow package in it"
)]
pub struct NoPage(PathBuf);

impl MlflowUi {
    /// The page of the configuration, else the one that `asgard mlflow-ui install` puts into the
    /// data directory, now or later.
    ///
    /// # Errors
    /// [`NoPage`] when the configuration names a place that has none.
    pub fn open(config: &tracking::Config, data_dir: &Path) -> Result<Self, NoPage> {
        let configured = match &config.mlflow_ui {
            Some(place) => Some(locate(place).ok_or_else(|| NoPage(place.clone()))?),
            None => None,
        };
        Ok(Self {
            configured,
            installed: installed(data_dir).join("build"),
            known: Arc::default(),
        })
    }

    /// The files of the page; none when it is not installed. They are listed anew when another
    /// page has been installed.
    pub(crate) async fn assets(&self) -> io::Result<Option<Arc<Assets>>> {
        let root = self.configured.as_ref().unwrap_or(&self.installed).clone();
        let changed = match tokio::fs::metadata(root.join(INDEX)).await {
            Ok(index) => index.modified()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let known = self.lock().clone();
        if let Some(known) = known.filter(|known| known.changed == changed) {
            return Ok(Some(known));
        }
        let read = tokio::task::spawn_blocking(move || Assets::read(&root, changed));
        let assets = Arc::new(read.await.map_err(io::Error::other)??);
        *self.lock() = Some(assets.clone());
        Ok(Some(assets))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Assets>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where `asgard mlflow-ui install` puts the page.
fn installed(data_dir: &Path) -> PathBuf {
    data_dir.join("tools/mlflow-ui")
}

/// The folder of the page: the place itself, or within a package, its site-packages or a virtual
/// environment.
fn locate(place: &Path) -> Option<PathBuf> {
    let mut candidates = vec![
        place.to_owned(),
        place.join("build"),
        place.join(IN_PACKAGE),
        place.join("mlflow").join(IN_PACKAGE),
    ];
    let pythons = std::fs::read_dir(place.join("lib")).into_iter().flatten();
    let packages = pythons.flatten().map(|python| python.path());
    candidates.extend(packages.map(|p| p.join("site-packages/mlflow").join(IN_PACKAGE)));
    candidates.into_iter().find(|c| c.join(INDEX).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_in_whatever_the_setting_names() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().join("venv");
        let site = venv.join("lib/python3.11/site-packages");
        let build = site.join("mlflow/server/js/build");
        std::fs::create_dir_all(&build).unwrap();
        assert_eq!(locate(&venv), None);
        std::fs::write(build.join(INDEX), "x").unwrap();
        for place in [&venv, &site, &site.join("mlflow"), &build] {
            assert_eq!(locate(place).as_ref(), Some(&build), "{}", place.display());
        }
        let config = tracking::Config {
            mlflow_ui: Some(dir.path().to_owned()),
            ..tracking::Config::default()
        };
        let refused = MlflowUi::open(&config, dir.path()).unwrap_err();
        assert!(refused.to_string().contains("tracking.mlflow_ui"));
    }
}
