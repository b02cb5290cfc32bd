//! Writes that come while an earlier one is on its way go together, in one statement that is its own
//! transaction. For PostgreSQL, where each is a round trip and a sync, and where two transactions
//! that change the same row wait for each other.
//!
//! A lone writer never waits for others. What is acknowledged has been committed.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use db::{Conn, Db, Error};
use tokio::sync::oneshot;

/// How many statements of one kind may be on their way at once.
const LANES: usize = 4;

/// The most rows that go together: what comes behind them does not wait long.
const MAX_ROWS: usize = 8_000;

/// What can be written together with others of its kind.
pub(crate) trait Gather: Send + Sync + Sized + 'static {
    /// What each of them is told.
    type Outcome: Send + 'static;

    /// Those of the same key never wait for each other's rows: they go one after the other.
    fn key(&self) -> &str;

    /// About how many rows it writes.
    fn rows(&self) -> usize;

    /// Writes all in one statement, and tells each in their order.
    fn write(
        conn: &mut Conn,
        together: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, Error>> + Send;
}

/// Where writes of one kind wait for each other; cheap to clone.
pub(crate) struct Gathering<T: Gather> {
    lanes: Arc<[Lane<T>; LANES]>,
}

/// Writes that go one lot after the other.
struct Lane<T: Gather>(Mutex<Waiting<T>>);

struct Waiting<T: Gather> {
    writes: VecDeque<(T, Answer<T>)>,
    /// Whether a task is at work that takes up what waits.
    led: bool,
}

type Answer<T> = oneshot::Sender<Result<<T as Gather>::Outcome, Error>>;

impl<T: Gather> Clone for Gathering<T> {
    fn clone(&self) -> Self {
        Self {
            lanes: self.lanes.clone(),
        }
    }
}

impl<T: Gather> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            lanes: Arc::new(std::array::from_fn(|_| Lane::default())),
        }
    }
}

impl<T: Gather> Default for Lane<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            writes: VecDeque::new(),
            led: false,
        }))
    }
}

impl<T: Gather> Gathering<T> {
    /// Writes with those that wait, and gives what it is told once that is durable. A caller that
    /// goes away meanwhile holds nobody up.
    pub(crate) async fn write(&self, db: &Db, write: T) -> Result<T::Outcome, Error> {
        let answered = self.queue(db, write);
        // Nobody answers when the leading task ended before its time.
        answered.await.unwrap_or(Err(Error::Closed))
    }

    fn queue(&self, db: &Db, write: T) -> oneshot::Receiver<Result<T::Outcome, Error>> {
        let mut hasher = DefaultHasher::new();
        write.key().hash(&mut hasher);
        let lane = hasher.finish() as usize % LANES;
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.lanes[lane].waiting();
        waiting.writes.push_back((write, answer));
        if !std::mem::replace(&mut waiting.led, true) {
            let leader = Leader {
                of: self.clone(),
                lane,
                ended: false,
            };
            tokio::spawn(lead(leader, db.clone()));
        }
        answered
    }
}

impl<T: Gather> Lane<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next lot; none ends the lead.
    fn take(&self) -> Option<(Vec<T>, Vec<Answer<T>>)> {
        let mut waiting = self.waiting();
        let mut rows = 0;
        let fits = |(write, _): &&(T, Answer<T>)| {
            let first = rows == 0;
            rows += write.rows();
            first || rows <= MAX_ROWS
        };
        let count = waiting.writes.iter().take_while(fits).count();
        waiting.led = count > 0;
        (count > 0).then(|| waiting.writes.drain(..count).unzip())
    }
}

/// The task that takes up what waits in a lane. When it ends before its time, as with its runtime,
/// who waits is told that the database is closed, and the next to come leads.
struct Leader<T: Gather> {
    of: Gathering<T>,
    lane: usize,
    ended: bool,
}

impl<T: Gather> Drop for Leader<T> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.of.lanes[self.lane].waiting();
            waiting.led = false;
            waiting.writes.clear();
        }
    }
}

async fn lead<T: Gather>(mut leader: Leader<T>, db: Db) {
    while let Some((writes, answers)) = leader.of.lanes[leader.lane].take() {
        let outcomes = write_all(&db, &writes).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Who is gone need not be told.
            answer.send(outcome).ok();
        }
    }
    leader.ended = true;
}

/// Writes a lot; what one of them does wrong is not the others' fault.
async fn write_all<T: Gather>(db: &Db, writes: &[T]) -> Vec<Result<T::Outcome, Error>> {
    let error = match write_some(db, writes).await {
        Ok(outcomes) => return outcomes.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if writes.len() == 1 {
        return vec![Err(error)];
    }
    if error.is_unavailable() || error.is_full() {
        let shared = Arc::new(error);
        let told = |_| Err(Error::Commit(shared.clone()));
        return writes.iter().map(told).collect();
    }
    tracing::debug!(%error, writes = writes.len(), "writing together failed; each goes alone");
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        let alone = write_some(db, std::slice::from_ref(write)).await;
        outcomes.push(alone.map(|mut outcomes| outcomes.remove(0)));
    }
    outcomes
}

/// The connection is given back after each lot: others wait for one too.
async fn write_some<T: Gather>(db: &Db, writes: &[T]) -> Result<Vec<T::Outcome>, Error> {
    let mut conn = db.acquire().await?;
    T::write(&mut conn, writes).await
}
