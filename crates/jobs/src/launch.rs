//! Starting the interpreter of a job in its sandbox.

mod bounds;
mod interpreter;
mod leftovers;
mod runner;

pub(crate) use bounds::Bounds;
pub(crate) use interpreter::{Document, HANDING_OVER, Interpreter, Package};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use environments::Environment;
use sandbox::{Limits, Mount, Sandbox, Spec};

use crate::FeastRepo;
use crate::config::{Config, Network};
use crate::data_dirs::DataDirs;
use crate::error::Error;

/// The variable that holds a job's token.
pub(crate) const TOKEN_VARIABLE: &str = "MLFLOW_TRACKING_TOKEN";
/// Where the server answers inside a private network.
const DOOR: u16 = 5000;
/// The folder of the script inside a sandbox with private files.
const WORK_DIR: &str = "/job";
/// The folder of the runner there.
const RUNNER_DIR: &str = "/asgard";

/// Where scripts find the Feast repository, under the temporary folder.
const FEAST_REPO: &str = "feast_repo/feature_store.yaml";

/// Starts interpreters; cheap to clone.
#[derive(Clone)]
pub(crate) struct Launcher {
    sandbox: Sandbox,
    config: Config,
    /// The runner's folder on this machine.
    runner: PathBuf,
    /// Where work folders are made when the sandbox has no private files.
    scratch: PathBuf,
    server_url: String,
}

impl Launcher {
    /// Writes the runner's files into the data directory.
    pub(crate) fn new(
        sandbox: Sandbox,
        config: Config,
        data_dir: &Path,
        server_url: String,
    ) -> Result<Self, Error> {
        let write = || -> std::io::Result<(PathBuf, PathBuf)> {
            let data_dir = std::path::absolute(data_dir)?;
            let scratch = data_dir.join("jobs");
            std::fs::create_dir_all(&scratch)?;
            for left in std::fs::read_dir(&scratch)? {
                leftovers::remove(&left?.path());
            }
            Ok((runner::write(&data_dir.join("runner"))?, scratch))
        };
        let (runner, scratch) = write().map_err(Error::io("writing the job runner's files"))?;
        Ok(Self {
            sandbox,
            config,
            runner,
            scratch,
            server_url,
        })
    }

    fn has_door(&self) -> bool {
        self.sandbox.has_private_network() && self.config.network == Network::Private
    }

    /// Starts an interpreter that imports `preload` and waits. `variables` are read by libraries
    /// when they are loaded, so they must be known now.
    pub(crate) async fn start(
        &self,
        environment: &Environment,
        bounds: Bounds,
        preload: &[String],
        variables: &[(String, String)],
    ) -> Result<Interpreter, Error> {
        let private = self.sandbox.has_private_files();
        let (work_dir, temp_dir) = if private {
            (PathBuf::from(WORK_DIR), None)
        } else {
            let dir = tempfile::Builder::new()
                .prefix("work-")
                .tempdir_in(&self.scratch)
                .map_err(Error::io("making a job's work folder"))?;
            (dir.path().to_owned(), Some(dir))
        };
        let runner = if private {
            PathBuf::from(RUNNER_DIR)
        } else {
            self.runner.clone()
        };
        let mut args: Vec<OsString> = vec!["-u".into(), runner.join("runner.py").into()];
        if !preload.is_empty() {
            args.push("--preload".into());
            args.push(preload.join(",").into());
        }
        let mut env = self.variables(environment, bounds, &work_dir, private);
        env.extend(variables.iter().cloned());
        let data_dirs = self.data_dirs();
        let spec = Spec {
            program: environment.python.clone(),
            args,
            env: env.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
            work_dir,
            mounts: self.mounts(environment, private, &data_dirs),
            limits: Limits {
                memory_bytes: bounds.memory_bytes,
                cpus: bounds.cpus,
                processes: Some(self.config.processes),
                open_files: Some(self.config.open_files),
                file_size_bytes: Some(self.config.file_size_bytes),
                tmp_bytes: Some(self.config.tmp_bytes),
            },
            network: self.network(),
            stdin: true,
            listener: None,
        };
        let process = self.sandbox.spawn(spec).await?;
        Ok(Interpreter::new(process, data_dirs, temp_dir))
    }

    /// The server, as a script reaches it.
    fn uri(&self) -> String {
        if self.has_door() {
            format!("http://127.0.0.1:{DOOR}")
        } else {
            self.server_url.clone()
        }
    }

    /// The files that a script finds under its temporary folder.
    pub(crate) fn files(&self, feast_repo: Option<&FeastRepo>) -> Vec<(String, String)> {
        let uri = self.uri();
        let authority = uri.strip_prefix("http://").unwrap_or(&uri);
        // Behind a job's own door every caller is that job.
        let token = (!self.has_door()).then_some(TOKEN_VARIABLE);
        let yaml = feast_repo.and_then(|write| write(authority, token));
        yaml.map(|yaml| (FEAST_REPO.to_owned(), yaml))
            .into_iter()
            .collect()
    }

    fn network(&self) -> sandbox::Network {
        if self.config.network == Network::Host {
            return sandbox::Network::Host;
        }
        if self.has_door() {
            return sandbox::Network::Doors(vec![DOOR]);
        }
        match self
            .server_url
            .rsplit(':')
            .next()
            .and_then(|p| p.parse().ok())
        {
            Some(port) => sandbox::Network::Doors(vec![port]),
            None => sandbox::Network::Host,
        }
    }

    /// The folders of data that a sandbox made now would show.
    pub(crate) fn data_dirs(&self) -> DataDirs {
        DataDirs::now(&self.config.data_dirs)
    }

    fn mounts(&self, environment: &Environment, private: bool, data_dirs: &DataDirs) -> Vec<Mount> {
        let mut mounts = environment.mounts();
        if private {
            mounts.push(Mount {
                host: self.runner.clone(),
                inside: PathBuf::from(RUNNER_DIR),
                writable: false,
            });
        } else {
            mounts.push(Mount::read_only(&self.runner));
        }
        mounts.extend(data_dirs.mounts());
        mounts
    }

    /// The environment of every job.
    fn variables(
        &self,
        environment: &Environment,
        bounds: Bounds,
        work_dir: &Path,
        private: bool,
    ) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let temporary = if private {
            "/tmp".to_owned()
        } else {
            text(work_dir)
        };
        let mut variables: Vec<(String, String)> = [
            (
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", text(&environment.bin())),
            ),
            ("HOME", temporary.clone()),
            ("TMPDIR", temporary.clone()),
            ("USER", "asgard".to_owned()),
            ("LOGNAME", "asgard".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("VIRTUAL_ENV", text(&environment.root)),
            ("PYTHONUTF8", "1".to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("PYTHONNOUSERSITE", "1".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("MPLBACKEND", "Agg".to_owned()),
            ("MPLCONFIGDIR", format!("{temporary}/matplotlib")),
            ("GIT_PYTHON_REFRESH", "quiet".to_owned()),
            ("DO_NOT_TRACK", "true".to_owned()),
            ("MLFLOW_DISABLE_TELEMETRY", "true".to_owned()),
            // The links would name the job's own door.
            ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true".to_owned()),
            ("MLFLOW_TRACKING_URI", self.uri()),
            ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3".to_owned()),
            ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1".to_owned()),
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "60".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if !private {
            // The script's `repo_path` names a folder that all of the machine shares.
            let path = format!("{temporary}/{FEAST_REPO}");
            variables.push(("FEAST_FS_YAML_FILE_PATH".to_owned(), path));
        }
        if let Some(cpus) = bounds.cpus {
            let threads = format!("{}", cpus.ceil().max(1.0));
            for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
                variables.push((name.to_owned(), threads.clone()));
            }
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_server_left_keeps_no_job_from_running() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("jobs/work-a/closed");
        std::fs::create_dir_all(closed.join("inner")).unwrap();
        for folder in [closed.join("inner"), closed] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o500)).unwrap();
        }
        // Not a folder at all, which removing a folder refuses.
        std::fs::write(dir.path().join("jobs/stray"), "").unwrap();
        let sandbox = Sandbox::detect(&sandbox::Config::default()).await.unwrap();
        let launcher = Launcher::new(sandbox, Config::default(), dir.path(), String::new());
        assert!(launcher.is_ok());
        assert!(!dir.path().join("jobs/work-a").exists());
    }
}
