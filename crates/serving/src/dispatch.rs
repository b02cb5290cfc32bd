//! The queue of one model: takes what waits, asks the worker once, gives each caller its part.
//!
//! Batching is natural: whatever has come while the worker was busy is joined to its next call. A
//! lone request never waits for company. Only models whose rows do not touch each other are asked
//! for several requests at once, so that an answer has the same bits as if it had come alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandbox::Meter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::frame::Frame;
use crate::worker::{Answer, Failure, Launch, StartFailure, Worker};

/// The first pause after a worker has died twice in a row; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where the calls of one model go in. When the last clone is dropped the worker stops.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    calls: mpsc::Sender<Call>,
    /// Of the worker, while there is one.
    meter: Arc<Mutex<Option<Meter>>>,
    label: Arc<str>,
}

/// How calls of a model are handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Calls that may wait.
    pub(crate) queue_length: usize,
    /// Rows that may be joined; 0 for models that are asked for each request by itself.
    pub(crate) batch_rows: usize,
    /// How long starting a worker may take.
    pub(crate) load_timeout: Duration,
    /// After how long without a call the worker is stopped until the next; for models that are
    /// answered without it.
    pub(crate) rest_after: Option<Duration>,
}

#[derive(Debug)]
struct Call {
    frame: Frame,
    probabilities: bool,
    deadline: Instant,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

impl Queue {
    /// Puts a worker behind a queue, and a task between them. Without one, the first call that
    /// needs it starts it.
    pub(crate) fn new(worker: Option<Worker>, launch: Launch, rules: Rules) -> Self {
        let (calls, waiting) = mpsc::channel(rules.queue_length.max(1));
        let meter = Arc::new(Mutex::new(worker.as_ref().map(Worker::meter)));
        let label: Arc<str> = launch.label.as_str().into();
        let dispatcher = Dispatcher {
            waiting,
            held: None,
            worker,
            launch,
            rules,
            deaths: 0,
            not_before: Instant::now(),
            meter: Arc::clone(&meter),
        };
        tokio::spawn(dispatcher.run());
        Self {
            calls,
            meter,
            label,
        }
    }

    /// Asks the model.
    pub(crate) async fn ask(
        &self,
        frame: Frame,
        probabilities: bool,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let deadline = Instant::now() + timeout;
        let (answer, answered) = oneshot::channel();
        let call = Call {
            frame,
            probabilities,
            deadline,
            answer,
        };
        self.calls.try_send(call).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy {
                model: self.label.to_string(),
                waiting: self.calls.max_capacity(),
            },
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::Timeout {
                model: self.label.to_string(),
                after: timeout,
            }),
        }
    }

    /// The memory that the worker holds now, measured from outside.
    pub(crate) fn memory_bytes(&self) -> u64 {
        lock(&self.meter).as_ref().map_or(0, Meter::memory_bytes)
    }
}

struct Dispatcher {
    waiting: mpsc::Receiver<Call>,
    /// A call that did not fit into the batch before it.
    held: Option<Call>,
    worker: Option<Worker>,
    launch: Launch,
    rules: Rules,
    /// Workers that died in a row.
    deaths: u32,
    not_before: Instant,
    meter: Arc<Mutex<Option<Meter>>>,
}

impl Dispatcher {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            if first.answer.is_closed() {
                continue;
            }
            // Callers that were just answered get a chance to come back before the next batch.
            tokio::task::yield_now().await;
            let batch = self.gather(first);
            self.serve(batch).await;
        }
    }

    async fn next(&mut self) -> Option<Call> {
        if let Some(call) = self.held.take() {
            return Some(call);
        }
        if let Some(rest_after) = self.rules.rest_after.filter(|_| self.worker.is_some()) {
            if let Ok(call) = tokio::time::timeout(rest_after, self.waiting.recv()).await {
                return call;
            }
            self.worker = None;
            *lock(&self.meter) = None;
        }
        self.waiting.recv().await
    }

    /// Takes what may be joined to `first`, in the order of arrival.
    fn gather(&mut self, first: Call) -> Vec<Call> {
        let mut rows = first.frame.rows;
        let alone = !first.frame.is_numeric();
        let mut batch = vec![first];
        while !alone && rows < self.rules.batch_rows {
            let Ok(call) = self.waiting.try_recv() else {
                break;
            };
            if call.answer.is_closed() {
                continue;
            }
            let fits = call.probabilities == batch[0].probabilities
                && rows + call.frame.rows <= self.rules.batch_rows
                && call.frame.layout == batch[0].frame.layout;
            if !fits {
                self.held = Some(call);
                break;
            }
            rows += call.frame.rows;
            batch.push(call);
        }
        batch
    }

    async fn serve(&mut self, mut batch: Vec<Call>) {
        if batch.len() > 1 {
            match self.ask_joined(&batch).await {
                Ok(answers) => {
                    for (call, answer) in batch.into_iter().zip(answers) {
                        let _ = call.answer.send(Ok(answer));
                    }
                    return;
                }
                // One of them may be to blame: the others must not suffer for it.
                Err(Some(Error::Raised { .. } | Error::Died { .. }) | None) => {}
                Err(Some(error)) => {
                    let error = Arc::new(error);
                    for call in batch {
                        let _ = call.answer.send(Err(Error::Shared(Arc::clone(&error))));
                    }
                    return;
                }
            }
        }
        for call in batch.drain(..) {
            let answer = self
                .ask(&call.frame, call.probabilities, call.deadline)
                .await;
            let _ = call.answer.send(answer);
        }
    }

    /// Asks for all at once; `Err(None)` when the answer cannot be cut into parts.
    async fn ask_joined(&mut self, batch: &[Call]) -> Result<Vec<Answer>, Option<Error>> {
        let frame = Frame::join(batch.iter().map(|call| &call.frame)).ok_or(None)?;
        let deadline = batch.iter().map(|call| call.deadline).max().ok_or(None)?;
        let joined = self.ask(&frame, batch[0].probabilities, deadline).await?;
        let whole = |values: &crate::values::Values| values.rows() == Some(frame.rows);
        if !whole(&joined.predictions) || !joined.probabilities.as_ref().is_none_or(whole) {
            self.rules.batch_rows = 0;
            return Err(None);
        }
        let mut from = 0;
        let parts = batch.iter().map(|call| {
            let count = call.frame.rows;
            let part = Answer {
                predictions: joined.predictions.slice(from, count),
                probabilities: joined.probabilities.as_ref().map(|p| p.slice(from, count)),
            };
            from += count;
            part
        });
        Ok(parts.collect())
    }

    async fn ask(
        &mut self,
        frame: &Frame,
        probabilities: bool,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let model = self.launch.label.clone();
        let asked = Instant::now();
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.restart().await?,
        };
        let Ok(result) = timeout_at(deadline, worker.ask(frame, probabilities)).await else {
            // Python cannot be interrupted: the worker is dropped, and so killed.
            tracing::warn!(%model, "a prediction took too long, its worker is stopped");
            return Err(Error::Timeout {
                model,
                after: asked.elapsed(),
            });
        };
        match result {
            Ok(answer) => {
                self.deaths = 0;
                self.worker = Some(worker);
                Ok(answer)
            }
            Err(Failure::Raised(raised)) => {
                self.deaths = 0;
                self.worker = Some(worker);
                Err(Error::Raised { model, raised })
            }
            Err(Failure::TooLong) => {
                self.worker = Some(worker);
                Err(Error::TooManyRows)
            }
            Err(Failure::Died(death)) => {
                tracing::warn!(%model, how = %death.how, "a model worker died");
                self.pause();
                Err(Error::Died { model, death })
            }
        }
    }

    /// The first restart is at once; workers that die again and again are started ever later.
    fn pause(&mut self) {
        self.deaths += 1;
        if self.deaths > 1 {
            let factor = 1_u32 << (self.deaths - 2).min(10);
            self.not_before = Instant::now() + (PAUSE * factor).min(LONGEST_PAUSE);
        }
    }

    async fn restart(&mut self) -> Result<Worker, Error> {
        let model = self.launch.label.clone();
        let now = Instant::now();
        if self.not_before > now {
            let after = self.not_before - now;
            return Err(Error::Restarting { model, after });
        }
        tracing::info!(%model, "a model worker is started again");
        let started = start(&self.launch, self.rules.load_timeout).await;
        let (worker, _) = started.inspect_err(|_| self.pause())?;
        *lock(&self.meter) = Some(worker.meter());
        Ok(worker)
    }
}

fn lock(meter: &Mutex<Option<Meter>>) -> MutexGuard<'_, Option<Meter>> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a worker, and tells a failure in words that name the model.
pub(crate) async fn start(
    launch: &Launch,
    timeout: Duration,
) -> Result<(Worker, crate::worker::Facts), Error> {
    let model = launch.label.clone();
    let Ok(started) = tokio::time::timeout(timeout, Worker::start(launch)).await else {
        return Err(Error::LoadTimeout {
            model,
            after: timeout,
        });
    };
    started.map_err(|failure| match failure {
        StartFailure::Load { raised, log } => Error::Load { model, raised, log },
        StartFailure::Died(death) => Error::Died { model, death },
        StartFailure::Sandbox(source) => Error::Sandbox { model, source },
        StartFailure::Io(source) => Error::Io {
            attempt: format!("start a worker for {model}"),
            source,
        },
    })
}
