//! One run of a script: handing it to its interpreter, reading what it writes, ending it in time.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sandbox::Exit;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use web::Timestamp;

use crate::error::Error;
use crate::launch::{Document, HANDING_OVER, Interpreter};
use crate::log::{Line, LogWriter, ScriptFailure, Stream, pump};

/// How long an interpreter may take until it begins the script: the imports of autologging.
const BEGIN_LIMIT: Duration = Duration::from_secs(300);
/// How long the last output may take to be read after the end of all processes.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How many words of the runner may wait to be heard; more are dropped.
const WORDS: usize = 64;

/// What stops a script from outside.
#[derive(Clone)]
pub(crate) struct Stops {
    /// Somebody cancelled the job.
    pub(crate) cancelled: CancellationToken,
    /// The job is not this server's any more.
    pub(crate) lost: CancellationToken,
    /// The server stops.
    pub(crate) shutdown: CancellationToken,
}

/// Why a script was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cancelled,
    Lost,
    Shutdown,
    TimedOut,
    NeverBegan,
}

impl Stops {
    /// Waits until something stops the job.
    pub(crate) async fn any(&self) -> Stopped {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Stopped::Lost,
            () = self.cancelled.cancelled() => Stopped::Cancelled,
            () = self.shutdown.cancelled() => Stopped::Shutdown,
        }
    }
}

/// How a script ended.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// Why it was stopped, unless it ended by itself.
    pub(crate) stopped: Option<Stopped>,
    /// What the runner said of its failure.
    pub(crate) failure: Option<ScriptFailure>,
    pub(crate) begun: bool,
}

/// What a script is run with.
pub(crate) struct Execution<'e> {
    pub(crate) interpreter: Interpreter,
    pub(crate) document: Document<'e>,
    pub(crate) timeout: Duration,
    pub(crate) log: &'e LogWriter,
    pub(crate) secrets: Arc<[String]>,
    pub(crate) stops: &'e Stops,
    /// Serves the job's own listener until the token is cancelled.
    pub(crate) serve: &'e (dyn Fn(TcpListener, CancellationToken) + Send + Sync),
    /// Told the moment when the script begins.
    pub(crate) begun: &'e watch::Sender<Option<i64>>,
    pub(crate) progress: &'e watch::Sender<Option<f64>>,
}

impl Execution<'_> {
    /// Runs the script to its end. Afterwards nothing of it is alive.
    pub(crate) async fn run(mut self) -> Result<Ended, Error> {
        let door_closed = CancellationToken::new();
        let _close_door = door_closed.clone().drop_guard();
        if let Some(listener) = self.interpreter.door.take() {
            (self.serve)(listener, door_closed);
        }
        let (words, mut heard) = mpsc::channel(WORDS);
        let pumps = self.start_pumps(words);
        let handing_over = self.interpreter.begin(&self.document)?;
        tokio::pin!(handing_over);
        let mut handed_over = false;

        let mut ended = Ended {
            exit: NOT_ENDED,
            stopped: None,
            failure: None,
            begun: false,
        };
        let mut deadline = Instant::now() + BEGIN_LIMIT;
        ended.exit = loop {
            let stop = tokio::select! {
                exit = self.interpreter.process.wait() => break exit?,
                handed = &mut handing_over, if !handed_over => {
                    handed_over = true;
                    match handed {
                        // It ended before it read all: its exit and its last words tell more.
                        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                            return Err(Error::io(HANDING_OVER)(error));
                        }
                        _ => continue,
                    }
                }
                Some(word) = heard.recv() => {
                    if word == Line::Begun && !ended.begun {
                        deadline = Instant::now() + self.timeout;
                    }
                    self.hear(word, &mut ended).await;
                    continue;
                }
                () = sleep_until(deadline), if ended.stopped.is_none() => {
                    if ended.begun { Stopped::TimedOut } else { Stopped::NeverBegan }
                }
                stop = self.stops.any(), if ended.stopped.is_none() => stop,
            };
            ended.stopped = Some(stop);
            self.interpreter.process.kill().await;
        };
        for pump in pumps {
            // All processes are gone, so the pipes end; what does not come then is not waited for.
            if timeout(DRAIN_LIMIT, pump).await.is_err() {
                tracing::warn!("the end of a script's output did not come");
            }
        }
        while let Ok(word) = heard.try_recv() {
            self.hear(word, &mut ended).await;
        }
        Ok(ended)
    }

    fn start_pumps(&mut self, words: mpsc::Sender<Line>) -> Vec<tokio::task::JoinHandle<()>> {
        let stdout = self.interpreter.output.take();
        let stderr = self.interpreter.process.take_stderr();
        let mut pumps = Vec::new();
        if let Some(stdout) = stdout {
            let progress = self.progress.clone();
            let said = move |line| match line {
                Line::Progress(fraction) => {
                    progress.send_replace(Some(fraction));
                }
                word => {
                    if words.try_send(word).is_err() {
                        tracing::debug!("a script talks too much to the platform");
                    }
                }
            };
            let log = self.log.clone();
            pumps.push(tokio::spawn(pump(
                stdout,
                Stream::Stdout,
                log,
                self.secrets.clone(),
                said,
            )));
        }
        if let Some(stderr) = stderr {
            let log = self.log.clone();
            pumps.push(tokio::spawn(pump(
                stderr,
                Stream::Stderr,
                log,
                self.secrets.clone(),
                |_| {},
            )));
        }
        pumps
    }

    async fn hear(&self, word: Line, ended: &mut Ended) {
        match word {
            Line::Begun if !ended.begun => {
                ended.begun = true;
                self.begun.send_replace(Some(Timestamp::now().0));
            }
            Line::Failed(failure) => ended.failure = Some(failure),
            Line::Note(text) => self.log.line(text).await,
            Line::Ready | Line::Begun | Line::Progress(_) => {}
        }
    }
}

const NOT_ENDED: Exit = Exit {
    code: None,
    signal: None,
    out_of_memory: false,
    usage: sandbox::Usage {
        peak_memory_bytes: 0,
        cpu_seconds: 0.0,
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Limits;
    use crate::signals::Signals;

    /// Runs a shell command as the interpreter of a script too long for a pipe; gives the end and
    /// the log.
    async fn run(command: &str, cancel_after: Duration) -> (Ended, String) {
        let db = db::testing::sqlite(&[crate::MIGRATIONS]).await;
        let limits = Limits {
            head: 1 << 20,
            tail: 1 << 20,
        };
        let body = serde_json::json!({
            "script_name": "s", "script_content": "x = 1", "experiment_name": "e", "model_name": "m"
        });
        let body = body.as_object().unwrap().clone();
        let submission = crate::Submission::parse(body, &crate::Config::default()).unwrap();
        let row = crate::store::jobs::NewRow {
            job_id: "j",
            request: &submission.request,
            sealed_variables: None,
            script: "",
            warnings: &[],
            idempotency_key: None,
            request_hash: "",
            created_by: "test",
            may_promote: false,
            now: 0,
        };
        let mut tx = db.begin().await.unwrap();
        crate::store::jobs::insert(&mut tx, &row).await.unwrap();
        tx.commit().await.unwrap();
        let signals = Signals::default();
        let (log, keeper) = LogWriter::open((*db).clone(), "j", limits, signals)
            .await
            .unwrap();
        let sandbox = sandbox::Sandbox::detect(&sandbox::Config::default())
            .await
            .unwrap();
        let spec = sandbox::Spec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), command.into()],
            env: Vec::new(),
            work_dir: std::env::temp_dir(),
            mounts: Vec::new(),
            limits: sandbox::Limits::default(),
            network: sandbox::Network::Host,
            stdin: true,
            listener: None,
        };
        let process = sandbox.spawn(spec).await.unwrap();
        let stops = Stops {
            cancelled: CancellationToken::new(),
            lost: CancellationToken::new(),
            shutdown: CancellationToken::new(),
        };
        let cancelled = stops.cancelled.clone();
        tokio::spawn(async move {
            tokio::time::sleep(cancel_after).await;
            cancelled.cancel();
        });
        let script = "x".repeat(1 << 20);
        let execution = Execution {
            interpreter: Interpreter::of(process),
            document: Document {
                script: &script,
                file: "train.py",
                environment: Vec::new(),
                files: Vec::new(),
                autolog: false,
                packages: Vec::new(),
                modules: Default::default(),
                usual: ["numpy", "pandas", "scipy", "sklearn"],
            },
            timeout: Duration::from_secs(60),
            log: &log,
            secrets: Arc::new([]),
            stops: &stops,
            serve: &|_, _| {},
            begun: &watch::channel(None).0,
            progress: &watch::channel(None).0,
        };
        let limit = Duration::from_secs(20);
        let ended = timeout(limit, execution.run()).await.unwrap().unwrap();
        drop(log);
        keeper.await.unwrap();
        let mut conn = db.acquire().await.unwrap();
        let chunks = crate::store::logs::list_from(&mut conn, "j", 0, 100).await;
        (ended, crate::log::show(&chunks.unwrap(), 0).text)
    }

    #[tokio::test]
    async fn an_interpreter_that_does_not_read_can_be_cancelled() {
        let (ended, _) = run("sleep 100", Duration::from_millis(300)).await;
        assert_eq!(ended.stopped, Some(Stopped::Cancelled));
    }

    #[tokio::test]
    async fn an_interpreter_that_ends_early_is_heard() {
        let (ended, log) = run("echo broken >&2; exit 7", Duration::from_secs(60)).await;
        assert_eq!((ended.stopped, ended.exit.code), (None, Some(7)));
        assert!(log.contains("broken"), "{log}");
    }
}
