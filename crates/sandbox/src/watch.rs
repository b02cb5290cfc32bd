//! Following a process to the end of its whole tree.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::cgroup::Group;
use crate::error::Error;
use crate::files;
use crate::process::{Exit, Usage};
use crate::raw;
use crate::spawner::Spawner;
use crate::spec::Spec;
use crate::supervisor::Ends;
use crate::tree;

/// How often memory and time are sampled where no control group counts them.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A tree of processes that is running.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Our child: bwrap, or the supervisor.
    child: Pid,
    child_fd: OwnedFd,
    /// The process whose death is the death of the tree: the first of its pid namespace. Absent
    /// where there is none; then the child ends the tree before it ends itself.
    first: Option<(Pid, OwnedFd)>,
    group: Option<Group>,
    watched: Watched,
    /// The pipes to a supervisor, where there is one.
    supervisor: Option<Ends>,
    sampled: Mutex<Usage>,
    over_limit: AtomicBool,
    /// The thread that started it must outlive it.
    _spawner: Spawner,
}

/// Limits to watch over, where the kernel does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    memory_bytes: Option<u64>,
    /// Folders inside whose files are in memory.
    memory_folders: Vec<PathBuf>,
    processes: Option<u64>,
}

impl Watched {
    /// What is left to watch beside the resource limits, without a control group.
    pub(crate) fn over(spec: &Spec, group: Option<&Group>) -> Self {
        if group.is_some() {
            return Self::default();
        }
        // The kernel does not hold root to RLIMIT_NPROC.
        let is_root = rustix::process::getuid().is_root();
        Self {
            memory_bytes: spec.limits.memory_bytes,
            memory_folders: files::memory_folders(spec),
            processes: spec.limits.processes.filter(|_| is_root).map(u64::from),
        }
    }
}

/// What ends with the last process of a tree.
#[derive(Debug)]
pub(crate) enum Holder {
    /// The first process of its pid namespace.
    First(Pid),
    Supervisor(Ends),
}

impl Tree {
    pub(crate) fn new(
        child: Pid,
        holder: Holder,
        group: Option<Group>,
        watched: Watched,
        spawner: Spawner,
    ) -> Result<Self, Error> {
        let open = |pid| {
            pidfd_open(pid, PidfdFlags::empty())
                .map_err(|e| Error::start("open a handle on a process", e))
        };
        let (first, supervisor) = match holder {
            Holder::First(pid) => (Some((pid, open(pid)?)), None),
            Holder::Supervisor(ends) => (None, Some(ends)),
        };
        Ok(Self {
            child,
            child_fd: open(child)?,
            first,
            supervisor,
            group,
            watched,
            sampled: Mutex::new(Usage::default()),
            over_limit: AtomicBool::new(false),
            _spawner: spawner,
        })
    }

    /// Kills every process of the tree.
    pub(crate) fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        match &self.first {
            // It may have ended by itself; that is what was wanted.
            Some((_, first)) => {
                let _ = pidfd_send_signal(first, Signal::KILL);
            }
            None => tree::kill_descendants(self.child),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        match &self.group {
            Some(group) => group.usage(),
            None => *self.sampled.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The memory that the tree has for itself now.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match &self.group {
            Some(group) => group.memory_bytes(),
            None => tree::sample(self.child).memory_bytes,
        }
    }

    /// Waits for the end of the tree, and reaps it.
    pub(crate) async fn ended(self: Arc<Self>) -> Result<Exit, Error> {
        let watch = |fd| raw::watch(fd).map_err(|e| Error::start("watch a process", e));
        let child = watch(self.child_fd.as_fd())?;
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = child.readable() => {
                    ended.map(|_| ()).map_err(|e| Error::start("wait for a process", e))?;
                    break;
                }
                _ = ticks.tick(), if self.group.is_none() => self.take_sample(),
            }
        }
        if let Some((pid, fd)) = &self.first {
            // bwrap ends when its program does; what that left behind is still inside.
            let _ = pidfd_send_signal(fd, Signal::KILL);
            let first = watch(fd.as_fd())?;
            first
                .readable()
                .await
                .map(|_| ())
                .map_err(|e| Error::start("wait for the end of a sandbox", e))?;
            // Ours to reap where this server is the machine's first process.
            let _ = waitpid(Some(*pid), WaitOptions::NOHANG);
        }
        let reaped =
            raw::reap(self.child).map_err(|e| Error::start("learn how a process ended", e))?;
        Ok(self.conclude(reaped).await)
    }

    async fn conclude(&self, reaped: raw::Reaped) -> Exit {
        let mut usage = self.usage();
        let mut out_of_memory = self.over_limit.load(Ordering::Relaxed);
        if let Some(group) = &self.group {
            while !group.is_empty() {
                group.kill();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            usage = group.usage();
            out_of_memory |= group.ran_out_of_memory();
            group.remove();
        }
        usage.cpu_seconds = usage.cpu_seconds.max(reaped.cpu_seconds);
        if self.supervisor.is_none() {
            // A supervisor's own peak is the server's, which it was forked from.
            usage.peak_memory_bytes = usage.peak_memory_bytes.max(reaped.peak_memory_bytes);
        }
        let (code, signal) = match &self.supervisor {
            Some(ends) => told_by_supervisor(ends),
            None => told_by_bwrap(&reaped),
        };
        Exit {
            code,
            signal,
            out_of_memory,
            usage,
        }
    }

    fn take_sample(&self) {
        let root = self.first.as_ref().map_or(self.child, |(pid, _)| *pid);
        let mut now = tree::sample(root);
        if self.first.is_some() {
            now.memory_bytes += files::in_memory(root, &self.watched.memory_folders);
        }
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        sampled.peak_memory_bytes = sampled.peak_memory_bytes.max(now.memory_bytes);
        sampled.cpu_seconds = sampled.cpu_seconds.max(now.cpu_seconds);
        drop(sampled);
        if self
            .watched
            .memory_bytes
            .is_some_and(|m| now.memory_bytes > m)
        {
            self.over_limit.store(true, Ordering::Relaxed);
            self.kill();
        } else if self.watched.processes.is_some_and(|p| now.processes > p) {
            tracing::warn!(
                processes = now.processes,
                "killing a process tree over its limit"
            );
            self.kill();
        }
    }
}

/// The process id of a child.
pub(crate) fn pid_of(child: &Child) -> Result<Pid, Error> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Error::Closed)
}

/// bwrap tells a death by signal as shells do.
fn told_by_bwrap(reaped: &raw::Reaped) -> (Option<i32>, Option<i32>) {
    let shell = reaped.code.map(|code| code - 128);
    let signal = reaped.signal.or(shell.filter(|s| (1..=64).contains(s)));
    let code = if signal.is_some() { None } else { reaped.code };
    (code, signal)
}

/// A supervisor passes on the program's wait status; if it was killed first, so was the program.
fn told_by_supervisor(ends: &Ends) -> (Option<i32>, Option<i32>) {
    let mut status = [0; 4];
    match rustix::io::read(&ends.status, &mut status[..]) {
        Ok(4) => raw::status_parts(i32::from_ne_bytes(status)),
        _ => (None, Some(libc::SIGKILL)),
    }
}
