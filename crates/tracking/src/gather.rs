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

/// The most writes that wait in a lane; those beyond them are told that the database is busy.
const MAX_WAITING: usize = 1_000;

/// The most lots in a row that a lane writes on one connection.
const MAX_LOTS: u32 = 64;

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
    /// Writes with those that wait, and gives what it is told once that is durable. What a caller
    /// waits for that goes away is not written, unless it is on its way.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait, else what the database says.
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
        if waiting.writes.len() >= MAX_WAITING {
            answer.send(Err(Error::Busy)).ok();
            return answered;
        }
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

    /// Tells all that wait what went wrong.
    fn refuse(&self, error: &Arc<Error>) {
        for (_, answer) in self.waiting().writes.drain(..) {
            answer.send(Err(shared(error))).ok();
        }
    }

    /// The next lot; none ends the lead.
    fn take(&self) -> Option<(Vec<T>, Vec<Answer<T>>)> {
        let mut waiting = self.waiting();
        waiting.writes.retain(|(_, answer)| !answer.is_closed());
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
    let lane = leader.lane;
    let mut turn = Turn {
        db: &db,
        kept: None,
    };
    while let Some((writes, answers)) = leader.of.lanes[lane].take() {
        let outcomes = match turn.write(&writes).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if concerns_all(&error) => {
                let error = Arc::new(error);
                leader.of.lanes[lane].refuse(&error);
                writes.iter().map(|_| Err(shared(&error))).collect()
            }
            Err(error) => {
                tracing::debug!(%error, writes = writes.len(), "writing together failed; each goes alone");
                write_each(&mut turn, &writes).await
            }
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Who is gone need not be told.
            answer.send(outcome).ok();
        }
    }
    leader.ended = true;
}

/// Writes one after the other: what one of them does wrong is not the others' fault.
async fn write_each<T: Gather>(
    turn: &mut Turn<'_>,
    writes: &[T],
) -> Vec<Result<T::Outcome, Error>> {
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut of_all = None;
    for write in writes {
        let outcome = match &of_all {
            Some(error) => Err(shared(error)),
            None => turn.write(std::slice::from_ref(write)).await,
        };
        let outcome = outcome.map_err(|error| {
            if !concerns_all(&error) {
                return error;
            }
            // The next would wait for the same in vain.
            shared(of_all.get_or_insert_with(|| Arc::new(error)))
        });
        outcomes.push(outcome.map(|mut outcomes| outcomes.remove(0)));
    }
    outcomes
}

/// Whether no other write would fare better now.
fn concerns_all(error: &Error) -> bool {
    error.is_unavailable() || error.is_full()
}

fn shared(error: &Arc<Error>) -> Error {
    Error::Together(Arc::clone(error))
}

/// The lots that a lane writes on one connection: giving it back is a round trip, and another
/// backend's caches are cold. It is kept only as long as there is another for who comes.
struct Turn<'d> {
    db: &'d Db,
    /// With the number of lots that were written on it.
    kept: Option<(Conn, u32)>,
}

impl Turn<'_> {
    async fn write<T: Gather>(&mut self, writes: &[T]) -> Result<Vec<T::Outcome>, Error> {
        let (mut conn, lots) = match self.kept.take() {
            Some(kept) => kept,
            None => (self.db.acquire().await?, 0),
        };
        let outcomes = T::write(&mut conn, writes).await?;
        let lots = lots + 1;
        if lots < MAX_LOTS && self.db.has_spare() {
            self.kept = Some((conn, lots));
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use db::query;

    use super::*;

    struct Slow(u64);

    impl Gather for Slow {
        type Outcome = ();

        fn key(&self) -> &str {
            ["a", "b", "c", "d", "e", "f", "g", "h"][self.0 as usize % 8]
        }

        fn rows(&self) -> usize {
            1
        }

        async fn write(conn: &mut Conn, together: &[Self]) -> Result<Vec<()>, Error> {
            query("SELECT pg_sleep(0.002)").fetch_all(conn).await?;
            Ok(together.iter().map(|_| ()).collect())
        }
    }

    /// Goes alone, and tells which backend wrote it.
    struct Alone;

    impl Gather for Alone {
        type Outcome = i64;

        fn key(&self) -> &'static str {
            "a"
        }

        fn rows(&self) -> usize {
            MAX_ROWS
        }

        async fn write(conn: &mut Conn, together: &[Self]) -> Result<Vec<i64>, Error> {
            assert_eq!(together.len(), 1);
            let row = query("SELECT CAST(pg_backend_pid() AS BIGINT)").fetch_one(conn);
            Ok(vec![row.await?.get(0)])
        }
    }

    #[tokio::test]
    async fn lots_that_wait_for_each_other_are_written_on_one_connection() {
        let db = db::testing::postgres(&[]).await;
        let kind = Gathering::<Alone>::default();
        let waiting: Vec<_> = (0..20).map(|_| kind.queue(&db, Alone)).collect();
        let mut backends = std::collections::HashSet::new();
        for answered in waiting {
            let backend = answered.await.expect("a leader").expect("its write");
            backends.insert(backend);
        }
        assert_eq!(backends.len(), 1);
    }

    #[tokio::test]
    async fn writers_that_never_rest_leave_readers_their_connections() {
        let db = db::testing::postgres(&[]).await;
        let kinds = [0, 1].map(|_| Gathering::<Slow>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let writers = (0..64).map(|writer| {
            let (db, kind) = (db.clone(), kinds[writer as usize % 2].clone());
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    kind.write(&db, Slow(writer)).await?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Error>(())
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut readings = 0;
        while readings < 50 || written.load(Ordering::Relaxed) < 2_000 {
            // It would be refused as busy after its ten seconds.
            let mut conn = db.acquire().await.expect("a connection for a reader");
            query("SELECT 1")
                .fetch_all(&mut conn)
                .await
                .expect("an answer");
            readings += 1;
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.expect("a writer").expect("its writes");
        }
    }
}
