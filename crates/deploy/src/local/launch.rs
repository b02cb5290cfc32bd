//! How a replica's process is started: the model server in a sandbox, reached by a local socket
//! that it is handed. Model code sees no folder that asgard reads or connects in.

use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox::{Level, Limits, Mount, Network, Process, Sandbox, Spec};
use serving::{ModelFolder, Variables};

/// Where a replica's sandbox holds its parts, where it has private files.
const PROGRAM: &str = "/asgard/asgard";
const MODEL: &str = "/model";
const PROOF: &str = "/asgard/proof";
const WORK: &str = "/work";
/// The name of the socket in its folder.
const NAME: &str = "http";

/// Memory that a replica may fill with files.
const TMP_BYTES: u64 = 256 << 20;
/// A path of a local socket has at most 107 bytes (unix(7)).
const SOCKET_PATH: usize = 107;

/// Starts replicas; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) sandbox: Sandbox,
    /// A folder for the sockets and work folders of replicas.
    pub(crate) home: PathBuf,
}

/// What a replica may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpus: Option<f64>,
}

impl Launcher {
    /// Where a replica is reached.
    pub(crate) fn socket(&self, replica: &str) -> PathBuf {
        self.folder(replica).join(NAME)
    }

    fn folder(&self, replica: &str) -> PathBuf {
        self.home.join(replica)
    }

    /// Removes what replicas left that died with their server.
    pub(crate) async fn remove_left(&self) {
        remove(&self.home).await;
    }

    /// Removes the folder of a replica that has ended.
    pub(crate) async fn remove(&self, replica: &str) {
        remove(&self.folder(replica)).await;
    }

    /// Starts a process for the model; it is not ready yet.
    ///
    /// # Errors
    /// In words for whoever deploys.
    pub(crate) async fn start(
        &self,
        replica: &str,
        model: &ModelFolder,
        variables: &Variables,
        bounds: Bounds,
    ) -> Result<Process, String> {
        let socket = self.socket(replica);
        if socket.as_os_str().len() > SOCKET_PATH {
            return Err(format!(
                "the path {} is too long for a local socket; use a data directory with a shorter path",
                socket.display()
            ));
        }
        let folder = self.folder(replica);
        let work = folder.join("work");
        let failed =
            |e: std::io::Error| format!("cannot make the folder {}: {e}", folder.display());
        let made = (folder.clone(), work.clone());
        let listener = tokio::task::spawn_blocking(move || {
            clear(&made.0, &made.1)?;
            UnixListener::bind(socket)
        });
        let listener = listener.await.map_err(|e| e.to_string())?.map_err(failed)?;
        let (sandbox, isolation) = self.outer().await?;
        let mut spec = self.spec(listener.into(), &work, model, bounds, isolation);
        // The last of a name counts.
        let own = variables.to_environment().into_iter();
        let own = own.map(|(name, value)| (name.into(), value.into()));
        spec.env = own.chain(std::mem::take(&mut spec.env)).collect();
        sandbox.spawn(spec).await.map_err(|error| {
            let source = std::error::Error::source(&error).map(|s| format!(": {s}"));
            format!("{error}{}", source.unwrap_or_default())
        })
    }

    /// The sandbox of the whole process, and what isolation its worker shall find by itself. Where
    /// files are private the model server is inside, and its worker with it. Elsewhere the model
    /// server, which is asgard, runs as the server does and isolates its worker.
    async fn outer(&self) -> Result<(Sandbox, &'static str), String> {
        let isolation = match self.sandbox.level() {
            Level::Strict | Level::User => return Ok((self.sandbox.clone(), "none")),
            Level::Landlock => "best_effort",
            Level::None => "none",
        };
        let plain = sandbox::Config {
            isolation: sandbox::Isolation::None,
            bwrap: None,
        };
        let sandbox = Sandbox::at(Level::None, &plain).await;
        Ok((sandbox.map_err(|e| e.to_string())?, isolation))
    }

    fn spec(
        &self,
        listener: OwnedFd,
        work: &Path,
        model: &ModelFolder,
        bounds: Bounds,
        isolation: &str,
    ) -> Spec {
        let private = self.sandbox.has_private_files();
        // One that was removed meanwhile is made anew, by the replica for itself.
        let proof = model.proof.as_ref().filter(|proof| proof.is_file());
        let mut mounts = Vec::new();
        let (program, model_dir, work_dir) = if private {
            mounts.extend(model.environment.iter().flat_map(|e| e.mounts()));
            mounts.push(mount(&self.program, PROGRAM));
            mounts.push(mount(&model.folder, MODEL));
            mounts.extend(proof.map(|proof| mount(proof, PROOF)));
            (PROGRAM.as_ref(), MODEL.as_ref(), WORK.as_ref())
        } else {
            (self.program.as_path(), &*model.folder, work)
        };
        let listen = format!("fd:{}", listener.as_raw_fd());
        let mut args: Vec<OsString> = [
            "model-server",
            "--log-level",
            "warn,sandbox=error",
            "--isolation",
            isolation,
        ]
        .map(Into::into)
        .into();
        args.extend(["--model".into(), model_dir.into()]);
        args.extend(["--name".into(), model.name.clone().into()]);
        args.extend(["--model-version".into(), model.version.to_string().into()]);
        args.extend([
            "--data-dir".into(),
            work_dir.into(),
            "--listen".into(),
            listen.into(),
        ]);
        if let Some(proof) = proof {
            let proof = if private {
                PROOF.as_ref()
            } else {
                proof.as_path()
            };
            args.extend(["--proof".into(), proof.into()]);
        }
        if let Some(environment) = &model.environment {
            args.extend(["--environment".into(), environment.root.clone().into()]);
        }
        Spec {
            program: program.to_owned(),
            args,
            env: vec![
                ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
                ("HOME".into(), work_dir.into()),
                ("LANG".into(), "C.UTF-8".into()),
            ],
            work_dir: work_dir.to_owned(),
            mounts,
            limits: Limits {
                memory_bytes: bounds.memory_bytes,
                cpus: bounds.cpus,
                processes: Some(1_024),
                open_files: Some(4_096),
                file_size_bytes: None,
                tmp_bytes: Some(TMP_BYTES),
            },
            network: Network::None,
            stdin: false,
            listener: Some(Arc::new(listener)),
        }
    }
}

fn mount(host: &Path, inside: &str) -> Mount {
    Mount {
        inside: inside.into(),
        ..Mount::read_only(host)
    }
}

/// Removes a folder. One that stays takes a little room, and is tried again at the next start.
async fn remove(folder: &Path) {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "what a replica left cannot be removed");
        }
        _ => {}
    }
}

/// Makes the folders of a replica anew; nobody else may come in.
fn clear(folder: &Path, work: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(folder)?;
    private.create(work)
}
