//! Starting a program without namespaces: Landlock, or nothing but limits.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Resource;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::BpfProgram;

use crate::error::Error;
use crate::landlock;
use crate::limits;
use crate::oom;
use crate::raw;
use crate::spec::Spec;
use crate::supervisor::{self, Ends};

/// What keeps the program from the machine's files.
#[derive(Debug, Clone)]
pub(crate) enum Guard {
    Landlock(Arc<BpfProgram>),
    None,
}

/// The command that starts a supervisor and under it the program of `spec`.
pub(crate) fn command(
    spec: &Spec,
    guard: &Guard,
    limits: Vec<(Resource, u64)>,
    group: Vec<OwnedFd>,
) -> Result<(Command, Ends), Error> {
    let mut restricted = match guard {
        Guard::Landlock(_) => Some(landlock::rules(spec)?),
        Guard::None => None,
    };
    let (ends, inside) = supervisor::pipes()?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear();
    if !spec.env.iter().any(|(name, _)| name == "TMPDIR") {
        command.env("TMPDIR", &spec.work_dir);
    }
    command
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.work_dir)
        .stdin(if spec.stdin {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let guard = guard.clone();
    let listener = spec.listener.clone();
    raw::before_exec(&mut command, move || {
        supervisor::step_between(&inside)?;
        oom::prefer_this_process();
        for procs in &group {
            rustix::io::write(procs, b"0")?;
        }
        limits::apply(None, &limits)?;
        if let Some(rules) = restricted.take() {
            rules.restrict_self().map_err(|_| refused())?;
        }
        if let Guard::Landlock(filter) = &guard {
            give_up_capabilities()?;
            seccompiler::apply_filter(filter).map_err(|_| refused())?;
        }
        if let Some(listener) = &listener {
            fcntl_setfd(listener, FdFlags::empty())?;
        }
        Ok(())
    });
    Ok((command, ends))
}

/// Leaves root no more rights than its files give it. It cannot get them back: Landlock has set
/// no_new_privs.
fn give_up_capabilities() -> Result<(), rustix::io::Errno> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none)
}

/// An error that needs no memory: after a fork another thread may have held the allocator's lock.
fn refused() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc::EPERM)
}
