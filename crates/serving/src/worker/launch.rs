//! How a worker is started: its program, what it sees, what it may use.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use environments::Environment;
use sandbox::{Limits, Mount, Network, Sandbox, Spec};

use crate::copies::Folder;
use crate::variables::Variables;

/// The worker's program.
pub(crate) const PROGRAM: &str = include_str!("../../python/worker.py");

const MODEL_INSIDE: &str = "/model";
const PROGRAM_INSIDE: &str = "/asgard/worker.py";
const WORK_INSIDE: &str = "/work";

/// Memory that a worker may fill with files.
const TMP_BYTES: u64 = 256 * 1024 * 1024;

/// Everything that starting the worker of one model needs, any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) sandbox: Sandbox,
    pub(crate) environment: Environment,
    /// The model's folder on this machine.
    pub(crate) folder: Folder,
    /// Where the worker's program has been written.
    pub(crate) program: PathBuf,
    /// A folder of the host that a worker may write to where it has no private files.
    pub(crate) scratch: PathBuf,
    pub(crate) memory_bytes: u64,
    /// The flavors of the MLmodel file.
    pub(crate) flavors: serde_json::Value,
    /// What its code finds in its environment beside what every worker has.
    pub(crate) variables: Variables,
    /// `name version`, for logs.
    pub(crate) label: String,
}

impl Launch {
    /// The model's folder as the worker sees it.
    pub(crate) fn model_path(&self) -> &Path {
        if self.sandbox.has_private_files() {
            Path::new(MODEL_INSIDE)
        } else {
            &self.folder
        }
    }

    /// What to start. `work_dir` is the host folder for levels without private files.
    pub(crate) fn spec(&self, work_dir: &Path) -> Spec {
        let private = self.sandbox.has_private_files();
        let mut mounts = self.environment.mounts();
        let (program, work_dir) = if private {
            mounts.push(mount(&self.folder, MODEL_INSIDE));
            mounts.push(mount(&self.program, PROGRAM_INSIDE));
            (Path::new(PROGRAM_INSIDE), Path::new(WORK_INSIDE))
        } else {
            mounts.push(Mount::read_only(&*self.folder));
            mounts.push(Mount::read_only(&self.program));
            mounts.push(Mount::writable(work_dir));
            (self.program.as_path(), work_dir)
        };
        Spec {
            program: self.environment.python.clone(),
            args: vec!["-I".into(), "-B".into(), program.into()],
            env: self.variables(work_dir),
            work_dir: work_dir.to_owned(),
            mounts,
            limits: Limits {
                memory_bytes: Some(self.memory_bytes),
                cpus: None,
                processes: Some(512),
                open_files: Some(1_024),
                file_size_bytes: None,
                tmp_bytes: Some(TMP_BYTES),
            },
            network: Network::None,
            stdin: true,
            listener: None,
        }
    }

    fn variables(&self, home: &Path) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("LANG".into(), "C.UTF-8".into()),
            ("MPLCONFIGDIR".into(), home.into()),
            ("MLFLOW_DISABLE_TELEMETRY".into(), "true".into()),
            ("DO_NOT_TRACK".into(), "true".into()),
            // Threads that spin while they wait take the processor from other models.
            ("OMP_WAIT_POLICY".into(), "PASSIVE".into()),
        ];
        if !self.wants_threads() {
            variables.push(("OMP_NUM_THREADS".into(), "1".into()));
        }
        // The last of a name counts: whoever deploys chooses, but for what the worker stands on.
        let own = self.variables.iter();
        variables.extend(own.map(|(name, value)| (name.into(), value.into())));
        let mut path = self.environment.bin().into_os_string();
        path.push(":/usr/bin:/bin");
        variables.extend([("PATH".into(), path), ("HOME".into(), home.into())]);
        variables
    }

    /// A few rows through trees are done before a second thread has woken up; networks are not.
    fn wants_threads(&self) -> bool {
        !["sklearn", "xgboost", "lightgbm", "asgard.pickle"]
            .iter()
            .any(|flavor| self.flavors.get(flavor).is_some())
    }
}

fn mount(host: &Path, inside: &str) -> Mount {
    Mount {
        host: host.to_owned(),
        inside: inside.into(),
        writable: false,
    }
}

/// Writes the worker's program into `folder`, where every worker reads it. Any number of models may
/// do so at once: what stands there is always whole.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) async fn write_program(folder: &Path) -> std::io::Result<PathBuf> {
    let folder = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("worker.py");
        let mut part = tempfile::NamedTempFile::new_in(&folder)?;
        part.write_all(PROGRAM.as_bytes())?;
        part.persist(&path)?;
        Ok(path)
    });
    written.await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn models_that_load_at_once_all_find_the_whole_program() {
        let home = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            let loading = (0..8).map(|_| async {
                let path = write_program(home.path()).await.unwrap();
                assert_eq!(tokio::fs::read_to_string(path).await.unwrap(), PROGRAM);
            });
            futures_util::future::join_all(loading).await;
        }
        let left = std::fs::read_dir(home.path()).unwrap();
        assert_eq!(left.count(), 1, "nothing but the program");
    }
}
