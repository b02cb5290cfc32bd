//! A Python process that holds one model and answers for it.

mod launch;
mod protocol;

use std::time::Duration;

use sandbox::{LastLines, Meter, Process};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

pub(crate) use launch::{Launch, PROGRAM, write_program};
pub use protocol::Raised;
pub(crate) use protocol::{Answer, Facts};
use protocol::{
    DUMP, LOAD, LONGEST_REPLY, Reply, json_frame, layout_frame, predict_frame, read_reply,
};

use crate::frame::{Frame, Layout};

/// Layouts that a worker is asked to remember.
const LAYOUTS: usize = 64;
/// Lines of a worker that are kept to explain its end.
const LINES: usize = 40;
/// How much memory a reply gets before its first byte is there.
const FIRST_PART: u32 = 1 << 20;
/// How long a dead worker may take to be seen dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// A started worker with its model loaded. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: LastLines,
    layouts: Vec<Layout>,
    next_layout: usize,
    _scratch: TempDir,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The model's code raised; the worker lives.
    Raised(Raised),
    /// The worker is gone.
    Died(Death),
    /// The call has more rows than one frame holds.
    TooLong,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// In words: `was killed by signal 9`.
    pub how: String,
    /// The last lines that it wrote.
    pub log: Vec<String>,
}

/// Why a worker could not be started.
#[derive(Debug)]
pub(crate) enum StartFailure {
    /// The model could not be loaded.
    Load {
        raised: Raised,
        log: Vec<String>,
    },
    Died(Death),
    Sandbox(sandbox::Error),
    Io(std::io::Error),
}

impl Worker {
    /// Starts a worker and has it load its model.
    pub(crate) async fn start(launch: &Launch) -> Result<(Self, Facts), StartFailure> {
        let scratch = scratch(launch).map_err(StartFailure::Io)?;
        let spec = launch.spec(scratch.path());
        let mut process = launch
            .sandbox
            .spawn(spec)
            .await
            .map_err(StartFailure::Sandbox)?;
        let missing = || StartFailure::Io(std::io::Error::other("the worker has no pipes"));
        let (stderr, label) = (
            process.take_stderr().ok_or_else(missing)?,
            launch.label.clone(),
        );
        let log = LastLines::follow(stderr, LINES, move |line| {
            tracing::debug!(model = %label, line, "a model wrote");
        });
        let mut worker = Self {
            stdin: process.take_stdin().ok_or_else(missing)?,
            stdout: BufReader::with_capacity(1 << 16, process.take_stdout().ok_or_else(missing)?),
            process,
            log,
            layouts: Vec::new(),
            next_layout: 0,
            _scratch: scratch,
        };
        let load = json!({ "folder": launch.model_path(), "flavors": launch.flavors });
        match worker.exchange(&json_frame(LOAD, &load)).await {
            Ok(Reply::Ready(facts)) => Ok((worker, facts)),
            Ok(Reply::Failed(raised)) => Err(StartFailure::Load {
                raised,
                log: worker.log.all(),
            }),
            Ok(_) => Err(StartFailure::Died(
                worker.death("spoke out of turn".to_owned()),
            )),
            Err(cause) => Err(StartFailure::Died(worker.end(&cause).await)),
        }
    }

    /// Asks for predictions. Not to be asked again after [`Failure::Died`], nor when this future
    /// was dropped before its end.
    pub(crate) async fn ask(
        &mut self,
        frame: &Frame,
        probabilities: bool,
    ) -> Result<Answer, Failure> {
        let mut bytes = Vec::new();
        let number = self.number(&frame.layout, &mut bytes)?;
        let call = predict_frame(number, frame, probabilities).map_err(|_| Failure::TooLong)?;
        bytes.extend_from_slice(&call);
        match self.exchange(&bytes).await {
            Ok(Reply::Answer(answer)) => Ok(answer),
            Ok(Reply::Raised(raised)) => Err(Failure::Raised(raised)),
            Ok(_) => Err(Failure::Died(self.death("spoke out of turn".to_owned()))),
            Err(cause) => Err(Failure::Died(self.end(&cause).await)),
        }
    }

    /// Has the model's own numbers dumped, for an engine that knows what to do with them.
    ///
    /// # Errors
    /// `Some` with the reason when there are none; `None` when the worker is gone.
    pub(crate) async fn dump(&mut self) -> Result<Vec<u8>, Option<String>> {
        match self
            .exchange(&json_frame(DUMP, &serde_json::Value::Null))
            .await
        {
            Ok(Reply::Numbers(numbers)) => Ok(numbers),
            Ok(Reply::Unknown(why)) => Err(Some(why.message)),
            _ => Err(None),
        }
    }

    /// What measures its memory.
    pub(crate) fn meter(&self) -> Meter {
        self.process.meter()
    }

    /// The number under which the worker knows a layout; tells it first if it does not.
    fn number(&mut self, layout: &Layout, bytes: &mut Vec<u8>) -> Result<u16, Failure> {
        let known = self.layouts.iter().position(|l| l == layout);
        let at = known.unwrap_or(self.next_layout);
        let number = u16::try_from(at).map_err(|_| Failure::TooLong)?;
        if known.is_none() {
            bytes.extend(layout_frame(number, layout).map_err(|_| Failure::TooLong)?);
            if at < self.layouts.len() {
                self.layouts[at] = layout.clone();
            } else {
                self.layouts.push(layout.clone());
            }
            self.next_layout = (at + 1) % LAYOUTS;
        }
        Ok(number)
    }

    async fn exchange(&mut self, bytes: &[u8]) -> Result<Reply, String> {
        let broken = |e: std::io::Error| e.to_string();
        self.stdin.write_all(bytes).await.map_err(broken)?;
        self.stdin.flush().await.map_err(broken)?;
        let length = self.stdout.read_u32_le().await.map_err(broken)?;
        if length > LONGEST_REPLY {
            return Err(format!(
                "answered with {length} bytes, more than the {LONGEST_REPLY} that are taken"
            ));
        }
        // What is only announced takes no memory here.
        let mut frame = Vec::with_capacity(length.min(FIRST_PART) as usize);
        let mut reply = (&mut self.stdout).take(length.into());
        let read = reply.read_to_end(&mut frame).await.map_err(broken)?;
        if read < length as usize {
            return Err("ended in the middle of an answer".to_owned());
        }
        read_reply(&frame)
    }

    /// Waits for the end of a worker that no longer speaks, and says how it came.
    async fn end(&mut self, cause: &str) -> Death {
        let waited = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let how = match waited {
            Ok(Ok(exit)) if exit.out_of_memory => "ran out of memory".to_owned(),
            Ok(Ok(exit)) => match (exit.signal, exit.code) {
                (Some(signal), _) => format!("was killed by signal {signal}{}", meaning(signal)),
                (None, code) => format!("ended with code {}", code.unwrap_or_default()),
            },
            _ => {
                self.process.kill().await;
                format!("broke off the conversation ({cause})")
            }
        };
        self.death(how)
    }

    fn death(&self, how: String) -> Death {
        Death {
            how,
            log: self.log.all(),
        }
    }
}

fn scratch(launch: &Launch) -> std::io::Result<TempDir> {
    std::fs::create_dir_all(&launch.scratch)?;
    TempDir::with_prefix_in("worker-", &launch.scratch)
}

fn meaning(signal: i32) -> &'static str {
    match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        9 => " (killed, often for want of memory)",
        11 => " (segmentation fault)",
        31 => " (a system call that the sandbox refuses)",
        _ => "",
    }
}
