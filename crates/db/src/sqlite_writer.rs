//! The one SQLite connection that writes, shared by group commit.
//!
//! Each operation runs in a savepoint of an open group transaction, and when it ended lets the
//! next one in. The first of a group that ends has a task close it: the task queues for the
//! connection behind the operations that already wait, which join the group, and commits for all.
//! An operation is acknowledged only after the commit that holds it. When the task ends before
//! its time, as it does with its runtime, whoever waits for the group commits it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::error::Error;
use crate::sqlite::{self, File};

/// How often a group lets in those who came while it ran its operations, or who are on their way
/// because their last answer came with the last group. All share the sync that the commit costs.
const TURNS: usize = 6;

/// What became of a group: nothing yet, committed, or the reason it was not.
type Outcome = Option<Result<(), Arc<Error>>>;

pub(crate) struct Writer {
    shared: Shared,
}

/// The connection, and how many operations wait for it.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    waiting: Arc<AtomicUsize>,
}

/// The connection and the group that is open on it.
pub(crate) struct State {
    conn: Option<Connection>,
    group: Option<Group>,
    /// How many operations the last group held.
    last: usize,
    /// An operation was dropped half way or failed to end; its savepoint is still to be rolled back.
    abandoned: bool,
}

/// A transaction that holds operations.
struct Group {
    outcome: watch::Sender<Outcome>,
    /// How many operations ended well in it.
    joined: usize,
    /// Closes when the task that commits it has ended; none before there is one.
    leader: Option<watch::Receiver<()>>,
}

impl State {
    pub(crate) fn conn(&mut self) -> &mut Connection {
        self.conn
            .as_mut()
            .expect("the writer is only taken by close, after which nothing begins")
    }

    fn run(&mut self, sql: &str) -> Result<(), Error> {
        sqlite::execute(self.conn(), sql, &[]).map(|_| ())
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.tidy()?;
        if self.conn.is_none() {
            return Err(Error::Closed);
        }
        if self.group.is_none() {
            self.run("BEGIN IMMEDIATE")?;
            self.group = Some(Group {
                outcome: watch::Sender::new(None),
                joined: 0,
                leader: None,
            });
        }
        self.run("SAVEPOINT operation")
    }

    /// Rolls back what a dropped operation left.
    fn tidy(&mut self) -> Result<(), Error> {
        if self.abandoned && self.conn.is_some() {
            self.run("ROLLBACK TO operation")?;
            self.run("RELEASE operation")?;
        }
        // Not before: what could not be rolled back must not be committed either.
        self.abandoned = false;
        Ok(())
    }

    /// Commits, which syncs the log: other tasks go on meanwhile.
    fn commit_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        self.last = group.joined;
        let outcome = match self.tidy() {
            Ok(()) => sqlite::blocking(|| self.run("COMMIT")),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            // Leaves the connection usable; there may be no transaction any more.
            if let Err(error) = self.run("ROLLBACK") {
                tracing::debug!(%error, "nothing to roll back after a failed commit");
            }
            self.abandoned = false;
        }
        let outcome = outcome.map_err(Arc::new);
        group.outcome.send_replace(Some(outcome));
    }
}

impl Writer {
    pub(crate) fn open(file: &File) -> Result<Self, Error> {
        Ok(Self::over(file.open_writer()?))
    }

    /// One whose every change SQLite refuses.
    pub(crate) fn open_without_writing(file: &File) -> Result<Self, Error> {
        Ok(Self::over(file.open_reader()?))
    }

    fn over(conn: Connection) -> Self {
        let state = State {
            conn: Some(conn),
            group: None,
            last: 0,
            abandoned: false,
        };
        let shared = Shared {
            state: Arc::new(Mutex::new(state)),
            waiting: Arc::default(),
        };
        Self { shared }
    }

    pub(crate) async fn close(&self) {
        let mut state = self.shared.state.lock().await;
        state.commit_group();
        if let Some(conn) = state.conn.take()
            && let Err(error) = sqlite::blocking(|| conn.close().map_err(|(_, error)| error))
        {
            tracing::warn!(%error, "closing the SQLite writer failed");
        }
    }

    /// Waits for the connection and opens an operation on it.
    pub(crate) async fn begin(&self) -> Result<(Shared, OwnedMutexGuard<State>), Error> {
        let shared = self.shared.clone();
        let waiting = Waiting::count(&shared.waiting);
        let mut state = shared.state.clone().lock_owned().await;
        drop(waiting);
        // Nothing is awaited from here on: a caller that is dropped leaves nothing half done.
        if let Err(error) = state.begin() {
            // A full disk makes SQLite roll the whole group back by itself: the operation before
            // this one is to blame, and the next group begins anew.
            tracing::debug!(%error, "beginning an operation failed");
            state.commit_group();
            if let Err(error) = state.begin() {
                state.commit_group();
                return Err(error);
            }
        }
        Ok((shared, state))
    }
}

/// Counts one who waits, also if it is dropped meanwhile.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn count(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends an operation well; what is returned waits until its group is committed. The group is,
/// whether or not anyone waits for it.
pub(crate) fn commit(
    shared: Shared,
    mut state: OwnedMutexGuard<State>,
) -> impl Future<Output = Result<(), Error>> + use<> {
    let joined = match state.run("RELEASE operation") {
        Ok(()) => {
            let joined = join(&shared, &mut state);
            drop(state);
            Ok((shared, joined))
        }
        Err(error) => {
            // Answered with an error, so the group must not store it.
            abandon(shared, state);
            Err(error)
        }
    };
    async move {
        let (shared, joined) = joined?;
        joined.committed(&shared).await
    }
}

/// A part in a group: what came of it, and who sees to that.
struct Joined {
    outcome: watch::Receiver<Outcome>,
    leader: watch::Receiver<()>,
}

impl Joined {
    async fn committed(mut self, shared: &Shared) -> Result<(), Error> {
        let when_left_alone = async {
            while self.leader.changed().await.is_ok() {}
            shared.state.lock().await.commit_group();
        };
        tokio::select! {
            biased;
            _ = self.outcome.wait_for(Option::is_some) => {}
            () = when_left_alone => {}
        }
        match self.outcome.borrow().clone() {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(Error::Commit(reason)),
            None => Err(Error::Closed),
        }
    }
}

/// Makes sure that somebody commits the group.
fn join(shared: &Shared, state: &mut State) -> Joined {
    let group = state
        .group
        .as_mut()
        .expect("an operation runs inside a group");
    group.joined += 1;
    let outcome = group.outcome.subscribe();
    let led = group
        .leader
        .take()
        .filter(|leader| leader.has_changed().is_ok());
    let leader = led.unwrap_or_else(|| {
        let (leading, leader) = watch::channel(());
        tokio::spawn(lead(shared.clone(), leading));
        leader
    });
    group.leader = Some(leader.clone());
    Joined { outcome, leader }
}

/// Commits the group when nobody waits to join it. A lone writer never waits for others. Whoever
/// waits for the group sees by `leading` that this goes on.
async fn lead(shared: Shared, leading: watch::Sender<()>) {
    let mut state = shared.state.lock().await;
    for _ in 1..TURNS {
        let alone = state.last <= 1;
        if alone && shared.waiting.load(Ordering::Relaxed) == 0 {
            break;
        }
        drop(state);
        if !alone {
            // Requests that have arrived are read before this goes on.
            tokio::task::yield_now().await;
        }
        state = shared.state.lock().await;
    }
    state.commit_group();
    drop(leading);
}

/// Marks a dropped operation for rollback, and sees to it even if nobody writes again.
pub(crate) fn abandon(shared: Shared, mut state: OwnedMutexGuard<State>) {
    state.abandoned = true;
    drop(state);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { shared.state.lock().await.commit_group() });
    }
}
