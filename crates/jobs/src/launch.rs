//! Starting the interpreter of a job in its sandbox.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use environments::Environment;
use futures_util::FutureExt as _;
use sandbox::{Limits, Mount, Process, Sandbox, Spec};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdout;

use crate::FeastRepo;
use crate::config::{Config, Network};
use crate::data_dirs::DataDirs;
use crate::error::Error;
use crate::job::JobRequest;

/// The files that every job finds beside its script.
const FILES: [(&str, &str); 8] = [
    ("runner.py", include_str!("../python/runner.py")),
    (
        "site/asgard/__init__.py",
        include_str!("../../../python/asgard/__init__.py"),
    ),
    (
        "site/asgard/client.py",
        include_str!("../../../python/asgard/client.py"),
    ),
    (
        "site/asgard/columns.py",
        include_str!("../../../python/asgard/columns.py"),
    ),
    (
        "site/asgard/errors.py",
        include_str!("../../../python/asgard/errors.py"),
    ),
    (
        "site/asgard/job.py",
        include_str!("../../../python/asgard/job.py"),
    ),
    (
        "site/asgard/run.py",
        include_str!("../../../python/asgard/run.py"),
    ),
    (
        "site/asgard/transport.py",
        include_str!("../../../python/asgard/transport.py"),
    ),
];

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

/// What fails when an interpreter does not take its script.
pub(crate) const HANDING_OVER: &str = "handing the script to its interpreter";

/// What the runner writes when its imports are done.
const READY: &[u8] = b"::asgard ready null::\n";

/// What bounds an interpreter; one that waits serves only jobs of the same bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpus: Option<f64>,
}

impl Bounds {
    /// What a job asked for, else the defaults.
    pub(crate) fn of(request: &JobRequest, config: &Config) -> Self {
        Self {
            memory_bytes: request
                .memory_bytes
                .or(config.memory_default_bytes)
                .or_else(|| fair_part_of_memory(config.slots())),
            cpus: request.cpus.or(config.cpus_default),
        }
    }
}

/// This job's part of three quarters of the machine's memory, so that all jobs together cannot take
/// the server down with them; but enough for a usual job, where many may run at once.
fn fair_part_of_memory(slots: usize) -> Option<u64> {
    const ENOUGH: u64 = 4 << 30;
    let most = crate::memory::of_machine()?.total_bytes / 4 * 3;
    let part = most / u64::try_from(slots).unwrap_or(u64::MAX);
    Some(part.max(ENOUGH.min(most)))
}

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

/// A Python that waits for the script it will run.
pub(crate) struct Interpreter {
    pub(crate) process: Process,
    pub(crate) output: Option<ChildStdout>,
    pub(crate) door: Option<TcpListener>,
    /// Those that its sandbox shows.
    pub(crate) data_dirs: DataDirs,
    ready: bool,
    /// Removed with the interpreter.
    _work_dir: Option<TempDir>,
}

/// What the runner reads.
#[derive(Serialize)]
pub(crate) struct Document<'d> {
    pub(crate) script: &'d str,
    pub(crate) file: &'d str,
    pub(crate) environment: Vec<(String, String)>,
    /// Files under the temporary folder: their paths there, and what is in them.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) autolog: bool,
    pub(crate) packages: Vec<Package>,
    /// The modules that the script imports.
    pub(crate) modules: Vec<String>,
    /// Modules that most models need.
    pub(crate) usual: [&'static str; 4],
}

/// A package of the environment that a model may need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) modules: Vec<String>,
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
                remove_left(&left?.path());
            }
            Ok((write_runner(&data_dir.join("runner"))?, scratch))
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
        let mut process = self.sandbox.spawn(spec).await?;
        let output = process.take_stdout();
        let door = process
            .take_doors()
            .into_iter()
            .next()
            .map(|(_, listener)| listener);
        Ok(Interpreter {
            process,
            output,
            door,
            data_dirs,
            ready: false,
            _work_dir: temp_dir,
        })
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

/// Removes the work folder of a server that was killed. One that cannot be removed keeps no job from
/// running: each has a folder of its own.
fn remove_left(folder: &Path) {
    let removed = match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            // A script may have closed its folders to their owner.
            open_to_owner(folder).and_then(|()| std::fs::remove_dir_all(folder))
        }
        removed => removed,
    };
    if let Err(error) = removed {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "a job's work folder is left and cannot be removed");
    }
}

fn open_to_owner(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself: what a link points at is not the job's.
        if entry.file_type()?.is_dir() {
            open_to_owner(&entry.path())?;
        }
    }
    Ok(())
}

/// Writes the files once per content.
fn write_runner(parent: &Path) -> std::io::Result<PathBuf> {
    let mut hasher = Sha256::new();
    for (name, content) in FILES {
        hasher.update(name);
        hasher.update(content);
    }
    let folder = parent.join(&format!("{:x}", hasher.finalize())[..16]);
    if is_whole(&folder) {
        return Ok(folder);
    }
    if folder.is_dir() {
        // A loss of power may leave files without their content.
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(parent)?;
    let unfinished = tempfile::Builder::new().prefix("new-").tempdir_in(parent)?;
    for (name, content) in FILES {
        let path = unfinished.path().join(name);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, content)?;
    }
    make_readable(unfinished.path())?;
    match std::fs::rename(unfinished.keep(), &folder) {
        // Another server of the same data directory was quicker.
        Err(_) if is_whole(&folder) => Ok(folder),
        Err(error) => Err(error),
        Ok(()) => Ok(folder),
    }
}

fn is_whole(folder: &Path) -> bool {
    FILES.iter().all(|(name, content)| {
        std::fs::read(folder.join(name)).is_ok_and(|found| found == content.as_bytes())
    })
}

/// Temporary folders are private to their owner; the job's user must read this one.
fn make_readable(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

impl Interpreter {
    /// Whether the imports asked for are done. One that is not ready takes a script all the same,
    /// and begins it when they are.
    pub(crate) fn is_ready(&mut self) -> bool {
        if let Some(output) = &mut self.output
            && !self.ready
        {
            // Nothing else is written before the script begins, and this in one piece.
            let mut marker = [0; READY.len()];
            let read = output.read(&mut marker).now_or_never();
            self.ready = matches!(read, Some(Ok(n)) if marker[..n] == *READY);
        }
        self.ready
    }

    /// Hands over the script; the runner begins it. The future waits for the interpreter to read.
    pub(crate) fn begin(
        &mut self,
        document: &Document<'_>,
    ) -> Result<impl Future<Output = std::io::Result<()>> + use<>, Error> {
        let Some(mut stdin) = self.process.take_stdin() else {
            let gone = std::io::ErrorKind::BrokenPipe.into();
            return Err(Error::io(HANDING_OVER)(gone));
        };
        let bytes = serde_json::to_vec(document)
            .map_err(|error| Error::io("writing down a job")(error.into()))?;
        Ok(async move {
            stdin.write_all(&bytes).await?;
            stdin.shutdown().await
        })
    }

    /// A process that takes the place of an interpreter.
    #[cfg(test)]
    pub(crate) fn of(mut process: Process) -> Self {
        Self {
            output: process.take_stdout(),
            process,
            door: None,
            data_dirs: DataDirs::now(&[]),
            ready: false,
            _work_dir: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = write_runner(dir.path()).unwrap();
        assert_eq!(write_runner(dir.path()).unwrap(), first);
        assert!(first.join("runner.py").is_file() && first.join("site/asgard/job.py").is_file());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_runner_that_lost_its_content_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = write_runner(dir.path()).unwrap();
        std::fs::write(folder.join("runner.py"), "").unwrap();
        assert_eq!(write_runner(dir.path()).unwrap(), folder);
        assert!(is_whole(&folder));
    }

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
