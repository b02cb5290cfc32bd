//! Private files, processes and network by the bubblewrap program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::Error;
use crate::files;
use crate::oom;
use crate::raw;
use crate::spec::{Network, Spec};

/// Where the program is looked for when the configuration does not say.
const USUAL: [&str; 4] = [
    "/usr/bin/bwrap",
    "/usr/local/bin/bwrap",
    "/bin/bwrap",
    "/run/current-system/sw/bin/bwrap",
];

/// Begins the program when it has read a line. When the server dies while bwrap is still at work,
/// its parent-death signal finds nobody yet and `--block-fd` lets go; then there is no line.
pub(crate) const GATE: &str = "read -r go && exec \"$0\" \"$@\"";
const GATE_WITHOUT_STDIN: &str = "read -r go && exec \"$0\" \"$@\" </dev/null";

/// The line that [`GATE`] waits for.
pub(crate) const GO: &[u8] = b"go\n";

/// The bubblewrap program, and what its version can do.
#[derive(Debug, Clone)]
pub(crate) struct Bwrap {
    program: PathBuf,
    disables_userns: bool,
}

impl Bwrap {
    /// Finds the program; the error says what is missing.
    pub(crate) fn find(configured: Option<&Path>) -> Result<Self, String> {
        let program = match configured {
            Some(path) => path.to_owned(),
            None => USUAL
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .ok_or_else(|| format!("no bwrap at {}", USUAL.join(", ")))?,
        };
        let help = Command::new(&program)
            .arg("--help")
            .env_clear()
            .output()
            .map_err(|e| format!("{} does not run: {e}", program.display()))?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned()
            + &String::from_utf8_lossy(&help.stderr);
        for needed in ["--size", "--perms", "--info-fd", "--block-fd", "--clearenv"] {
            if !help.contains(needed) {
                return Err(format!(
                    "{} is too old: it has no {needed}",
                    program.display()
                ));
            }
        }
        Ok(Self {
            disables_userns: help.contains("--disable-userns"),
            program,
        })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The command that builds the sandbox of `spec` and waits to be released, and our ends of
    /// its pipes. Its own environment is empty: the sandbox's first process keeps it readable.
    pub(crate) fn command(
        &self,
        spec: &Spec,
        filter: &[u8],
    ) -> Result<(Command, File, OwnedFd), Error> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::start("make a pipe", e));
        let (info, info_inside) = pipe()?;
        let (block_inside, release) = pipe()?;
        let filter = memory_file("filter", filter)?;

        let mut arguments = self.isolation(spec);
        let mut inherited = Vec::new();
        for (option, fd) in [
            ("--info-fd", info_inside),
            ("--block-fd", block_inside),
            ("--seccomp", filter),
        ] {
            arguments.extend([option.into(), number(&fd)]);
            inherited.push(fd);
        }
        for (path, text) in files::made(&spec.network) {
            let content = memory_file("file", text.as_bytes())?;
            arguments.extend(["--ro-bind-data".into(), number(&content), path.into()]);
            inherited.push(content);
        }
        arguments.extend(files::arguments(spec)?);
        for (name, value) in &spec.env {
            arguments.extend(["--setenv".into(), name.clone(), value.clone()]);
        }
        arguments.extend(["--chdir".into(), spec.work_dir.clone().into()]);

        // Through a file, since other users of the machine can read arguments.
        let listed = memory_file("arguments", &nul_separated(&arguments)?)?;
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .arg("--args")
            .arg(number(&listed))
            .args(["--", "/bin/sh", "-c"])
            .arg(if spec.stdin { GATE } else { GATE_WITHOUT_STDIN })
            .arg(&spec.program)
            .args(&spec.args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        inherited.push(listed);
        let listener = spec.listener.clone();
        // No parent-death signal here: bwrap sets its own when its inner process can be told.
        raw::before_exec(&mut command, move || {
            oom::prefer_this_process();
            for fd in inherited.iter().chain(listener.as_deref()) {
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            Ok(())
        });
        Ok((command, File::from(info), release))
    }

    fn isolation(&self, spec: &Spec) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--unshare-all",
            "--unshare-user",
            "--die-with-parent",
            "--new-session",
            "--clearenv",
            "--cap-drop",
            "ALL",
            "--uid",
            "65534",
            "--gid",
            "65534",
            "--hostname",
            "sandbox",
        ]
        .map(OsString::from)
        .into();
        if self.disables_userns {
            arguments.push("--disable-userns".into());
        }
        if spec.network == Network::Host {
            arguments.push("--share-net".into());
        }
        arguments
    }
}

fn number(fd: &OwnedFd) -> OsString {
    fd.as_raw_fd().to_string().into()
}

/// A file without a name, at its beginning.
fn memory_file(name: &str, content: &[u8]) -> Result<OwnedFd, Error> {
    let failed = |e: std::io::Error| Error::start("make a file in memory", e);
    let fd = memfd_create(name, MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(content)
        .and_then(|()| file.rewind())
        .map_err(failed)?;
    Ok(file.into())
}

fn nul_separated(arguments: &[OsString]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for argument in arguments {
        let argument: &OsStr = argument;
        if argument.as_bytes().contains(&0) {
            return Err(Error::Setup(format!("{argument:?} holds a NUL byte")));
        }
        bytes.extend_from_slice(argument.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}
