//! The thread that starts all processes.
//!
//! A parent-death signal fires when the *thread* that forked ends, not its process
//! (prctl(2), PR_SET_PDEATHSIG), and the runtime's threads come and go. So one thread forks, and
//! lives as long as the sandbox and each of its processes.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::error::Error;

/// A handle on the thread; the thread ends when the last handle is gone.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

struct Request {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

impl Spawner {
    pub(crate) fn start() -> Result<Self, Error> {
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("sandbox-spawner".to_owned())
            .spawn(move || {
                for mut request in received {
                    let child = request.command.spawn();
                    if let Err(Ok(mut orphan)) = request.answer.send(child) {
                        // The caller went away while this was starting.
                        let ended = orphan.kill().and_then(|()| orphan.wait());
                        tracing::debug!(?ended, "a process was started for nobody");
                    }
                }
            })
            .map_err(|e| Error::start("start the thread that starts processes", e))?;
        Ok(Self { requests })
    }

    /// Starts `command`; its descriptors are closed in this process once it runs.
    pub(crate) async fn spawn(&self, command: Command) -> Result<Child, Error> {
        let program = command.get_program().display().to_string();
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request { command, answer })
            .map_err(|_| Error::Closed)?;
        answered
            .await
            .map_err(|_| Error::Closed)?
            .map_err(|e| Error::start(format!("start {program}"), e))
    }
}
