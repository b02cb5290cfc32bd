//! What to run, and what it may see and use.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// A process to start.
///
/// Where the level has private files, the process sees `/usr`, the certificate bundle, a private
/// `/tmp` and the mounts, and nothing else. Where it has not ([`crate::Level::has_private_files`]),
/// `inside` paths do not exist: give `program`, `args` and `work_dir` as host paths.
#[derive(Debug, Clone)]
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The whole environment; nothing of the server's own is passed on.
    pub env: Vec<(OsString, OsString)>,
    /// The folder it starts in, writable. With private files: an empty folder in memory that
    /// goes with the process, unless a mount lies there. Without: an existing host folder.
    pub work_dir: PathBuf,
    pub mounts: Vec<Mount>,
    pub limits: Limits,
    pub network: Network,
    /// Whether standard input is a pipe (else it is empty).
    pub stdin: bool,
    /// A listening socket of the server's that the program gets as its own, under the same number:
    /// it can be reached there without any folder that both may write ([`crate::take_listener`]).
    pub listener: Option<Arc<OwnedFd>>,
}

/// A file or folder of the host that the process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub host: PathBuf,
    pub inside: PathBuf,
    pub writable: bool,
}

impl Mount {
    /// A host path, read-only, at the same place inside.
    pub fn read_only(path: impl Into<PathBuf>) -> Self {
        let host = path.into();
        Self {
            inside: host.clone(),
            host,
            writable: false,
        }
    }

    /// A host path, writable, at the same place inside.
    pub fn writable(path: impl Into<PathBuf>) -> Self {
        Self {
            writable: true,
            ..Self::read_only(path)
        }
    }
}

/// Bounds of a process and all it starts. `None` is unbounded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Of the whole tree, files in memory (`/tmp`, the work folder) included.
    pub memory_bytes: Option<u64>,
    /// Processors' worth of time: 1.5 is one and a half.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Open files of one process.
    pub open_files: Option<u64>,
    /// Of one file.
    pub file_size_bytes: Option<u64>,
    /// Of `/tmp` and of the work folder, each, where they are in memory.
    pub tmp_bytes: Option<u64>,
}

/// What the process reaches over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    None,
    /// All that the host reaches. Where code is isolated, it gets internet sockets only: the
    /// host's local ones are doors to its services.
    Host,
    /// These loopback TCP ports and nothing else. With a private network the sandbox binds them
    /// inside and hands over the listeners ([`crate::Process::take_doors`]); without, they are the
    /// host's ports that may be connected to.
    Doors(Vec<u16>),
}
