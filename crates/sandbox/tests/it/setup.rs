//! Sandboxes at the levels of this machine, and short ways to run a script in one.

use std::path::PathBuf;
use std::process::Stdio;

use sandbox::{Config, Exit, Level, Limits, Network, Process, Sandbox, Spec};
use tokio::io::AsyncReadExt as _;

pub(crate) const MIB: u64 = 1 << 20;

/// The best sandbox of this machine.
pub(crate) async fn best() -> Sandbox {
    Sandbox::detect(&Config::default()).await.unwrap()
}

/// A sandbox of this level, unless the machine has none; then says so.
pub(crate) async fn at(level: Level) -> Option<Sandbox> {
    match Sandbox::at(level, &Config::default()).await {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            eprintln!("skipped at level {}: {error}", level.name());
            None
        }
    }
}

/// The sandboxes of all levels that work here and keep user code apart.
pub(crate) async fn isolating() -> Vec<Sandbox> {
    let mut found = Vec::new();
    for level in [Level::Strict, Level::User, Level::Landlock] {
        found.extend(at(level).await);
    }
    assert!(!found.is_empty(), "no level works here");
    found
}

/// The sandboxes of all levels that work here.
pub(crate) async fn all() -> Vec<Sandbox> {
    let mut found = isolating().await;
    found.extend(at(Level::None).await);
    found
}

/// A folder to work in, for the levels that have no private files.
pub(crate) struct WorkDir {
    folder: tempfile::TempDir,
}

impl WorkDir {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn host(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn of(&self, sandbox: &Sandbox) -> PathBuf {
        if sandbox.has_private_files() {
            PathBuf::from("/work")
        } else {
            self.folder.path().to_owned()
        }
    }
}

/// A shell script with moderate limits and no network.
pub(crate) fn script(sandbox: &Sandbox, work_dir: &WorkDir, text: &str) -> Spec {
    Spec {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), text.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        work_dir: work_dir.of(sandbox),
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
        listener: None,
    }
}

/// A Python script with the same limits.
pub(crate) fn python(sandbox: &Sandbox, work_dir: &WorkDir, text: &str) -> Spec {
    Spec {
        program: PathBuf::from("/usr/bin/python3"),
        ..script(sandbox, work_dir, text)
    }
}

/// How a process ended, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a shell script to its end.
pub(crate) async fn sh(sandbox: &Sandbox, text: &str) -> Ended {
    let work_dir = WorkDir::new();
    run(sandbox, script(sandbox, &work_dir, text)).await
}

/// Runs a Python script to its end.
pub(crate) async fn py(sandbox: &Sandbox, text: &str) -> Ended {
    let work_dir = WorkDir::new();
    run(sandbox, python(sandbox, &work_dir, text)).await
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

/// How many processes of this machine have `mark` in their arguments.
pub(crate) fn alive(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|arguments| String::from_utf8_lossy(arguments).contains(mark))
        .count()
}

/// A number of seconds to sleep that names one test's processes among all others.
pub(crate) fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("9{:07}.{next:03}1", std::process::id())
}

/// Runs one test of this binary again as the user nobody. Gives `false` where that cannot be done.
pub(crate) fn as_nobody(test: &str) -> bool {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return false;
    }
    // Where nobody can read it.
    let folder = tempfile::Builder::new()
        .prefix("nobody-")
        .tempdir_in("/tmp")
        .unwrap();
    let program = folder.path().join("it");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: setpriv does not run: {error}");
            return false;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "as nobody: {said}");
    assert!(said.contains("1 passed"), "as nobody: {said}");
    eprintln!("{said}");
    true
}
