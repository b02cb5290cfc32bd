//! Sandboxes at the levels of this machine, and short ways to run a script in one.

use std::path::PathBuf;

use sandbox::{Config, Exit, Limits, Network, Process, Sandbox, Spec};
use tokio::io::AsyncReadExt as _;

pub(crate) const MIB: u64 = 1 << 20;

/// The best sandbox of this machine.
pub(crate) async fn best() -> Sandbox {
    Sandbox::detect(&Config::default()).await.unwrap()
}

/// A shell script with moderate limits and no network.
pub(crate) fn script(text: &str) -> Spec {
    Spec {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), text.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        work_dir: PathBuf::from("/work"),
        mounts: Vec::new(),
        limits: Limits {
            memory_bytes: Some(256 * MIB),
            cpus: Some(1.0),
            processes: Some(64),
            open_files: Some(256),
            file_size_bytes: Some(64 * MIB),
            tmp_bytes: Some(16 * MIB),
        },
        network: Network::None,
        stdin: false,
    }
}

/// How a process ended, and all it said.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) async fn run(sandbox: &Sandbox, spec: Spec) -> Ended {
    finish(sandbox.spawn(spec).await.unwrap()).await
}

pub(crate) async fn finish(mut process: Process) -> Ended {
    let mut out = process.take_stdout().unwrap();
    let mut err = process.take_stderr().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (exit, _, _) = tokio::join!(
        process.wait(),
        out.read_to_end(&mut stdout),
        err.read_to_end(&mut stderr)
    );
    Ended {
        exit: exit.unwrap(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
