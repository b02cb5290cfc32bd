//! One replica: a process that is started, watched, and started again when it ends.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Exit, Process};
use serving::{ModelFolder, Variables};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::launch::{Bounds, Launcher};
use super::pool::Pool;
use crate::Deployments;
use crate::deployment::{Failure, Fault};
use crate::log::in_words;

/// The pause before a starting replica that is not well is asked again.
const ASK: Duration = Duration::from_millis(25);
/// How often a running one is, and how long it may take to say so.
const CHECK: Duration = Duration::from_secs(3);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Checks that may fail in a row.
const PATIENCE: u32 = 3;
/// The pause before the first restart; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A replica that ran this long was well.
const WELL: Duration = Duration::from_secs(60);
/// Lines of a process that are kept to explain its end.
const LAST_LINES: usize = 40;
/// The longest line, in bytes; what is longer goes on in the next.
const LINE_BYTES: u64 = 4_000;
/// How long lines may wait to be stored together, and how many.
const BATCH: Duration = Duration::from_millis(100);
const BATCH_LINES: usize = 1_000;

/// How a replica is.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Starting,
    Ready,
    /// It ended or did not start, and is started again after a pause.
    Down(Failure),
}

/// A replica as others see it.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) pool: Pool,
    status: watch::Sender<Status>,
    pub(crate) stop: CancellationToken,
}

/// What a replica is run with.
pub(crate) struct Runner {
    pub(crate) deployments: Deployments,
    pub(crate) deployment_id: String,
    pub(crate) launcher: Launcher,
    pub(crate) model: Arc<ModelFolder>,
    pub(crate) variables: Variables,
    /// What its log does not show.
    pub(crate) secrets: Arc<[String]>,
    pub(crate) bounds: Bounds,
    pub(crate) start_timeout: Duration,
    pub(crate) index: u32,
    /// Names its folder, which no other replica has.
    pub(crate) name: String,
}

impl Replica {
    /// Begins to run a replica; it goes on until its `stop`.
    pub(crate) fn begin(runner: Runner, stop: CancellationToken) -> Arc<Self> {
        let replica = Arc::new(Self {
            pool: Pool::new(runner.launcher.socket(&runner.name)),
            status: watch::Sender::new(Status::Starting),
            stop,
        });
        tokio::spawn(runner.run(Arc::clone(&replica)));
        replica
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(*self.status.borrow(), Status::Ready) && !self.stop.is_cancelled()
    }

    /// Gives it no more requests until it is seen to be healthy again.
    pub(crate) fn doubt(&self) {
        self.become_if(&Status::Ready, Status::Starting);
    }

    fn become_if(&self, from: &Status, to: Status) {
        self.status.send_if_modified(|status| {
            let applies = std::mem::discriminant(status) == std::mem::discriminant(from);
            if applies {
                *status = to;
            }
            applies
        });
    }

    /// Follows how it is.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl Runner {
    async fn run(self, replica: Arc<Replica>) {
        let mut pause = PAUSE;
        while !replica.stop.is_cancelled() {
            let began = Instant::now();
            let ended = self.once(&replica).await;
            replica.pool.forget();
            let Some(failure) = ended else { break };
            tracing::warn!(
                deployment_id = %self.deployment_id, replica = self.index,
                message = %failure.problem.message, "a replica is down"
            );
            let line = format!("replica {}: {}", self.index, failure.problem.message);
            replica.status.send_replace(Status::Down(failure));
            self.tell(vec![line]).await;
            if began.elapsed() > WELL {
                pause = PAUSE;
            }
            if replica
                .stop
                .run_until_cancelled(sleep(pause))
                .await
                .is_none()
            {
                break;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            replica.status.send_replace(Status::Starting);
        }
        replica.status.send_replace(Status::Starting);
        self.launcher.remove(&self.name).await;
    }

    /// Runs one process to its end; `None` when it was stopped.
    async fn once(&self, replica: &Replica) -> Option<Failure> {
        let (model, variables) = (&self.model, &self.variables);
        let starting = self
            .launcher
            .start(&self.name, model, variables, self.bounds);
        let mut process = match starting.await {
            Ok(process) => process,
            Err(message) => return Some(self.failed(Fault::Server, message, None)),
        };
        let said = self.follow(&mut process);
        let outcome = tokio::select! {
            outcome = self.watch(replica, &mut process) => Some(outcome),
            () = replica.stop.cancelled() => None,
        };
        process.kill().await;
        // The whole tree is gone when this returns; what it wrote has been read then.
        let exit = process.wait().await.ok();
        let lines = timeout(CHECK, said).await.ok().and_then(Result::ok);
        let outcome = outcome?;
        Some(self.explain(outcome, exit, &lines.unwrap_or_default()))
    }

    /// Waits until the process is ready and then until it is not; what ended that.
    async fn watch(&self, replica: &Replica, process: &mut Process) -> End {
        let began = Instant::now();
        let due = began + self.start_timeout;
        loop {
            // Who connects before it is ready waits until it is.
            tokio::select! {
                healthy = timeout_at(due, replica.pool.is_healthy()) => match healthy {
                    Ok(true) => break,
                    Ok(false) if Instant::now() < due => {}
                    _ => return End::NotReady,
                },
                _ = process.wait() => return End::Exited,
            }
            if timeout(ASK, process.wait()).await.is_ok() {
                return End::Exited;
            }
        }
        replica.status.send_replace(Status::Ready);
        let line = format!(
            "replica {} ready after {:.1} s",
            self.index,
            began.elapsed().as_secs_f64()
        );
        self.tell(vec![line]).await;
        let mut failed = 0;
        while failed < PATIENCE {
            if timeout(CHECK, process.wait()).await.is_ok() {
                return End::Exited;
            }
            let healthy = timeout(CHECK_TIMEOUT, replica.pool.is_healthy()).await;
            failed = if healthy == Ok(true) { 0 } else { failed + 1 };
            if failed == 0 {
                replica.become_if(&Status::Starting, Status::Ready);
            }
        }
        End::Unhealthy
    }

    /// Sends what the process writes to the log; the last lines when it has ended.
    fn follow(&self, process: &mut Process) -> tokio::task::JoinHandle<Vec<String>> {
        let (lines, mut written) = mpsc::channel(256);
        if let Some(stdout) = process.take_stdout() {
            tokio::spawn(read(stdout, lines.clone()));
        }
        if let Some(stderr) = process.take_stderr() {
            tokio::spawn(read(stderr, lines));
        }
        let (deployments, id) = (self.deployments.clone(), self.deployment_id.clone());
        let source = format!("replica {}", self.index);
        let secrets = Arc::clone(&self.secrets);
        tokio::spawn(async move {
            let mut last: Vec<String> = Vec::new();
            let mut stored = Instant::now() - BATCH;
            while let Some(batch) = next_batch(&mut written, stored + BATCH).await {
                let covered = batch.into_iter().map(in_words);
                let covered = covered.map(|line| jobs::cover_secrets(&line, &secrets));
                let batch: Vec<String> = covered.collect();
                last.extend(batch.iter().cloned());
                let beyond = last.len().saturating_sub(LAST_LINES);
                last.drain(..beyond);
                deployments.say(&id, &source, batch).await;
                stored = Instant::now();
            }
            last
        })
    }

    fn explain(&self, end: End, exit: Option<Exit>, lines: &[String]) -> Failure {
        let index = self.index;
        let (fault, message) = match (end, exit) {
            (End::NotReady, _) => {
                let limit = self.start_timeout.as_secs();
                (
                    Fault::Script,
                    format!(
                        "replica {index} was not ready after {limit} s (deploy.start_timeout_s)"
                    ),
                )
            }
            (End::Unhealthy, _) => (
                Fault::Server,
                format!("replica {index} no longer answered its health checks"),
            ),
            (End::Exited, Some(exit)) if exit.out_of_memory => {
                let help = "ask for more with resources.memory, or deploy a smaller model";
                let message = format!("replica {index} ran out of memory");
                return self.failed(Fault::Script, message, Some(help.to_owned()));
            }
            (End::Exited, exit) => {
                if let Some((message, help)) = told(lines) {
                    return self.failed(Fault::Script, message, help);
                }
                let how = match exit.map(|e| (e.code, e.signal)) {
                    Some((_, Some(signal))) => format!("was killed by signal {signal}"),
                    Some((Some(code), _)) => format!("ended with code {code}"),
                    _ => "ended".to_owned(),
                };
                (Fault::Server, format!("replica {index} {how}"))
            }
        };
        let mut failure = self.failed(fault, message, None);
        failure.problem.details = (!lines.is_empty()).then(|| lines.join("\n"));
        failure
    }

    fn failed(&self, fault: Fault, message: String, help: Option<String>) -> Failure {
        let id = &self.deployment_id;
        let look = format!("'asgard deployments logs {id}' has what it wrote");
        Failure::new(
            fault,
            "replica_failed",
            "Replica failed",
            message,
            Some(help.unwrap_or(look)),
        )
    }

    async fn tell(&self, lines: Vec<String>) {
        let platform = crate::log::PLATFORM;
        self.deployments
            .say(&self.deployment_id, platform, lines)
            .await;
    }
}

/// What ended the watch over a process.
#[derive(Debug, Clone, Copy)]
enum End {
    Exited,
    NotReady,
    Unhealthy,
}

/// The lines that come until `due`, at least one; none when there are no more.
async fn next_batch(lines: &mut mpsc::Receiver<String>, due: Instant) -> Option<Vec<String>> {
    let mut batch = vec![lines.recv().await?];
    while let left @ 1.. = BATCH_LINES.saturating_sub(batch.len())
        && let Ok(1..) = timeout_at(due, lines.recv_many(&mut batch, left)).await
    {}
    Some(batch)
}

/// Sends the lines that a process writes.
async fn read(from: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut from)
        .take(LINE_BYTES)
        .read_until(b'\n', &mut line)
        .await
    {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if lines.send(text).await.is_err() {
            return;
        }
    }
}

/// The `error:` and `help:` lines that a command of asgard ends with.
fn told(lines: &[String]) -> Option<(String, Option<String>)> {
    let at = lines.iter().rposition(|line| line.starts_with("error: "))?;
    let message = lines[at].trim_start_matches("error: ").to_owned();
    let help = lines[at..]
        .iter()
        .find_map(|line| line.strip_prefix("help: "));
    Some((message, help.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_an_end_is_cut() {
        let (sender, mut lines) = mpsc::channel(10_000);
        read([b'x'; 10_001].as_slice(), sender).await;
        let mut lengths = Vec::new();
        while let Some(line) = lines.recv().await {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [4_000, 4_000, 2_001]);
    }

    #[tokio::test]
    async fn lines_that_come_together_are_stored_together() {
        let (sender, mut lines) = mpsc::channel(10_000);
        for number in 0..BATCH_LINES + 5 {
            sender.send(number.to_string()).await.unwrap();
        }
        let patience = Instant::now() + Duration::from_secs(600);
        let first = next_batch(&mut lines, patience).await.unwrap();
        assert_eq!(first.len(), BATCH_LINES);
        drop(sender);
        assert_eq!(next_batch(&mut lines, patience).await.unwrap().len(), 5);
        assert_eq!(next_batch(&mut lines, patience).await, None);
    }

    #[test]
    fn a_commands_last_words_are_the_cause() {
        let lines = [
            "starting",
            "error: no model",
            "help: log one",
            "request id: 1",
        ];
        let lines = lines.map(str::to_owned);
        let expected = ("no model".to_owned(), Some("log one".to_owned()));
        assert_eq!(told(&lines), Some(expected));
        assert_eq!(told(&lines[..1]), None);
    }
}
