//! Processes that run someone else's code: what they see, use and reach is bounded, and they end
//! with all they started.
//!
//! Held at every level: the process dies with the server, however that dies; after
//! [`Process::wait`] nothing of its tree is alive; its environment is the given one.

mod bwrap;
mod cgroup;
mod config;
mod detect;
mod doors;
mod enforced;
mod error;
mod files;
mod hold;
mod landlock;
mod last_lines;
mod launch;
mod level;
mod limits;
mod oom;
mod orphan;
mod plain;
mod process;
mod raw;
mod seccomp;
mod spawner;
mod spec;
mod supervisor;
mod tree;
mod watch;

use std::sync::Arc;

pub use config::{Config, Isolation};
pub use error::Error;
pub use last_lines::LastLines;
pub use level::{Level, Mechanism};
pub use process::{Enforced, Exit, Meter, Process, Usage};
pub use raw::{give_back_memory, take_listener};
pub use spec::{Limits, Mount, Network, Spec};

/// Starts processes at the level that was found to work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    level: Level,
    launcher: Arc<launch::Launcher>,
    report: Arc<[Mechanism]>,
    spawner: spawner::Spawner,
}

impl Sandbox {
    /// Finds the strongest level that works, by trying each.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when none works that the configuration accepts.
    pub async fn detect(config: &Config) -> Result<Self, Error> {
        Self::find(config, None).await
    }

    /// Tries one level only.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not work here.
    pub async fn at(level: Level, config: &Config) -> Result<Self, Error> {
        Self::find(config, Some(level)).await
    }

    async fn find(config: &Config, only: Option<Level>) -> Result<Self, Error> {
        let spawner = spawner::Spawner::start()?;
        let found = detect::detect(config, only, &spawner).await?;
        if found.level == Level::None {
            tracing::warn!("user code runs without isolation, as sandbox.isolation = none asks");
        }
        Ok(Self {
            level: found.level,
            launcher: Arc::new(found.launcher),
            report: found.report.into(),
            spawner,
        })
    }

    /// The level of every process of this sandbox.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether processes see only the files they were given (else use host paths in [`Spec`]).
    pub fn has_private_files(&self) -> bool {
        self.level.has_private_files()
    }

    /// Whether [`Network::Doors`] gives listeners (else the ports are the host's).
    pub fn has_private_network(&self) -> bool {
        self.level.has_private_network()
    }

    /// What was tried at [`Self::detect`].
    pub fn report(&self) -> &[Mechanism] {
        &self.report
    }

    /// Starts a process. When the caller leaves while it starts, it is killed.
    pub async fn spawn(&self, spec: Spec) -> Result<Process, Error> {
        let (launcher, spawner) = (Arc::clone(&self.launcher), self.spawner.clone());
        // A task of its own, for half a start cannot be taken back: it goes on to a process, and
        // a process that nobody takes is killed.
        let started = tokio::spawn(async move { launcher.start(spec, &spawner).await });
        started.await.map_err(|_| Error::Closed)?
    }
}
