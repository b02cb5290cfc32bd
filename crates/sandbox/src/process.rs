//! A running process: its pipes, its end, what it used.

use std::net::TcpListener;
use std::process::Child;
use std::sync::Arc;

use serde::Serialize;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;

use crate::error::Error;
use crate::level::Level;
use crate::watch::Tree;

/// A process in a sandbox. Dropping it kills it and all it started.
#[derive(Debug)]
pub struct Process {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    doors: Vec<(u16, TcpListener)>,
    enforced: Enforced,
    tree: Arc<Tree>,
    end: watch::Receiver<Option<Result<Exit, Arc<Error>>>>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exit {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it. With private processes an exit code of 128 + N is told as
    /// signal N, for that is how the launcher passes signals on.
    pub signal: Option<i32>,
    /// Whether the memory limit was met and something was killed for it.
    pub out_of_memory: bool,
    pub usage: Usage,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// What a process tree has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    pub peak_memory_bytes: u64,
    pub cpu_seconds: f64,
}

/// What holds a process in, kept with each job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enforced {
    pub level: Level,
    pub mechanisms: Vec<String>,
    /// What a reader could expect and does not get here.
    pub warnings: Vec<String>,
}

impl Process {
    /// Takes over a child that has been started: from now on it is followed to its end.
    pub(crate) fn follow(
        child: Child,
        tree: Tree,
        doors: Vec<(u16, TcpListener)>,
        enforced: Enforced,
    ) -> Result<Self, Error> {
        let tree = Arc::new(tree);
        let (tell, end) = watch::channel(None);
        let ended = Arc::clone(&tree).ended();
        tokio::spawn(async move {
            let result = ended.await.map_err(Arc::new);
            tell.send_replace(Some(result));
        });
        let mut process = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            doors,
            enforced,
            tree,
            end,
        };
        let failed = |e| Error::start("read the output of a process", e);
        process.stdin = child
            .stdin
            .map(ChildStdin::from_std)
            .transpose()
            .map_err(failed)?;
        process.stdout = child
            .stdout
            .map(ChildStdout::from_std)
            .transpose()
            .map_err(failed)?;
        process.stderr = child
            .stderr
            .map(ChildStderr::from_std)
            .transpose()
            .map_err(failed)?;
        Ok(process)
    }

    /// The write end of standard input, if the specification asked for one.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The read end of standard output; keep reading, or the process blocks.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The read end of standard error; keep reading, or the process blocks.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// The listeners of [`crate::Network::Doors`], each with its port. They are non-blocking.
    /// Empty when the level has no private network.
    pub fn take_doors(&mut self) -> Vec<(u16, TcpListener)> {
        std::mem::take(&mut self.doors)
    }

    /// Waits for the end. Then nothing of the tree is alive. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        let end = self
            .end
            .wait_for(Option::is_some)
            .await
            .map_err(|_| Error::Closed)?;
        match end.as_ref() {
            Some(Ok(exit)) => Ok(*exit),
            Some(Err(error)) => Err(Error::Lost(Arc::clone(error))),
            None => Err(Error::Closed),
        }
    }

    /// Kills the whole tree; [`Self::wait`] tells when it is gone.
    pub async fn kill(&self) {
        if self.end.borrow().is_none() {
            self.tree.kill();
        }
    }

    /// What the tree has used until now.
    pub fn usage(&self) -> Usage {
        match self.end.borrow().as_ref() {
            Some(Ok(exit)) => exit.usage,
            _ => self.tree.usage(),
        }
    }

    /// A meter of the tree's memory, for whoever does not have the process itself.
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.tree))
    }

    /// What holds this process in.
    pub fn enforced(&self) -> Enforced {
        self.enforced.clone()
    }
}

/// Tells what a tree of processes holds of the memory, whether it says so or not.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Tree>);

impl Meter {
    /// The memory that the tree has for itself now; 0 after its end.
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end.borrow().is_none() {
            self.tree.kill();
        }
    }
}
