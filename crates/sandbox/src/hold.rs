//! A sandbox that bwrap has built and whose program has not begun.
//!
//! In this state it is bounded and its doors are bound; then it is released. If anything fails
//! before that, dropping it ends it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Child;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::bwrap;
use crate::cgroup::{Cgroups, Group};
use crate::doors;
use crate::error::Error;
use crate::limits;
use crate::spawner::Spawner;
use crate::spec::{Network, Spec};
use crate::watch::{Holder, Tree, Watched, pid_of};

/// What is held, until it is released.
#[derive(Debug)]
pub(crate) struct Held {
    /// bwrap itself; absent when released.
    child: Option<Child>,
    info: File,
    release: OwnedFd,
    first: Option<Pid>,
    group: Option<Group>,
}

/// A released program.
pub(crate) struct Released {
    pub(crate) child: Child,
    pub(crate) tree: Tree,
    pub(crate) doors: Vec<(u16, TcpListener)>,
}

impl Held {
    pub(crate) fn new(child: Child, info: File, release: OwnedFd) -> Self {
        Self {
            child: Some(child),
            info,
            release,
            first: None,
            group: None,
        }
    }

    /// Bounds the first process inside, binds the doors, and lets the program begin. Blocks
    /// shortly.
    pub(crate) fn settle(
        mut self,
        cgroups: Option<&Cgroups>,
        spec: &Spec,
        spawner: Spawner,
    ) -> Result<Released, Error> {
        let first = self.first_process()?;
        self.first = Some(first);
        self.group = cgroups.map(|c| c.create(&spec.limits)).transpose()?;
        if let Some(group) = &self.group {
            group.add(first)?;
        }
        let limits = limits::list(&spec.limits, self.group.is_some(), 0);
        limits::apply_to(first, &limits)?;
        let doors = match &spec.network {
            Network::Doors(ports) => {
                let first = pidfd_open(first, PidfdFlags::empty())
                    .map_err(|e| Error::start("open a handle on a process", e))?;
                doors::bind_inside(first.as_fd(), ports)?
            }
            Network::None | Network::Host => Vec::new(),
        };
        self.open_the_gate(spec)?;
        let child = self.child.take().ok_or(Error::Closed)?;
        let watched = Watched::over(spec, self.group.as_ref());
        let holder = Holder::First(first);
        let tree = Tree::new(pid_of(&child)?, holder, self.group.take(), watched, spawner)?;
        rustix::io::write(&self.release, b"g")
            .map_err(|e| Error::start("release a sandboxed process", e))?;
        Ok(Released { child, tree, doors })
    }

    /// Sends the line without which no program begins, ahead of all that it will read itself.
    fn open_the_gate(&mut self, spec: &Spec) -> Result<(), Error> {
        let stdin = self.child.as_mut().map(|child| &mut child.stdin);
        let stdin = stdin.ok_or(Error::Closed)?;
        if let Some(pipe) = stdin {
            pipe.write_all(bwrap::GO)
                .map_err(|e| Error::start("begin a sandboxed program", e))?;
        }
        if !spec.stdin {
            *stdin = None;
        }
        Ok(())
    }

    /// The first process inside, once it exists.
    fn first_process(&mut self) -> Result<Pid, Error> {
        let mut text = String::new();
        let mut buffer = [0; 512];
        while !text.contains('}') {
            match self.info.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
                Err(e) => return Err(Error::start("read what bwrap says about a sandbox", e)),
            }
        }
        child_pid(&text).ok_or_else(|| {
            let stderr = self.child.as_mut().and_then(|child| child.stderr.take());
            let mut said = String::new();
            if let Some(mut stderr) = stderr {
                // It has closed its end or is about to: this ends.
                drop(stderr.read_to_string(&mut said));
            }
            Error::Setup(format!("bwrap: {}", said.trim()))
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Either may have ended by itself, and then nothing is left to kill.
        if let Some(first) = self.first {
            let _ = kill_process(first, Signal::KILL);
        }
        drop(child.kill());
        drop(child.wait());
        if let Some(group) = &self.group {
            group.remove_when_empty();
        }
    }
}

/// The number after `"child-pid":`.
fn child_pid(text: &str) -> Option<Pid> {
    let (_, rest) = text.split_once("\"child-pid\"")?;
    let digits: String = rest
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    Pid::from_raw(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_read_from_the_report() {
        let text = "{\n    \"child-pid\": 4242,\n    \"cgroup-namespace\": 4026532757\n}";
        assert_eq!(child_pid(text), Pid::from_raw(4242));
        assert_eq!(child_pid("{}"), None);
    }
}
