//! The one SQLite connection that writes, shared by group commit.
//!
//! Each operation runs in a savepoint of an open group transaction. A finished operation queues
//! for the connection again, behind the operations that already wait: those run inside the same
//! group, and whoever comes back first commits for all. A lone writer commits at once; sixteen
//! share one commit. An operation is acknowledged only after the commit that holds it.

use std::future::Future;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::conn::Shared;
use crate::error::Error;

/// What became of a group: nothing yet, committed, or the reason it was not.
type Outcome = Option<Result<(), String>>;

pub(crate) struct Writer {
    state: Shared,
}

/// The connection and the group that is open on it.
pub(crate) struct State {
    conn: Option<SqliteConnection>,
    group: Option<watch::Sender<Outcome>>,
    /// An operation was dropped half way or failed to end; its savepoint is still to be rolled back.
    abandoned: bool,
}

impl State {
    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        self.conn
            .as_mut()
            .expect("the writer is only taken by close, after which nothing begins")
    }

    async fn begin(&mut self) -> Result<(), Error> {
        self.tidy().await?;
        if self.conn.is_none() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        if self.group.is_none() {
            self.conn().execute("BEGIN IMMEDIATE").await?;
            self.group = Some(watch::Sender::new(None));
        }
        self.conn().execute("SAVEPOINT operation").await?;
        Ok(())
    }

    /// Rolls back what a dropped operation left.
    async fn tidy(&mut self) -> Result<(), Error> {
        if self.abandoned && self.conn.is_some() {
            self.conn()
                .execute("ROLLBACK TO operation; RELEASE operation")
                .await?;
        }
        // Not before: what could not be rolled back must not be committed either.
        self.abandoned = false;
        Ok(())
    }

    async fn commit_group(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        let outcome = match self.tidy().await {
            Ok(()) => self
                .conn()
                .execute("COMMIT")
                .await
                .map(|_| ())
                .map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        if outcome.is_err() {
            // Leaves the connection usable; there may be no transaction any more.
            if let Err(error) = self.conn().execute("ROLLBACK").await {
                tracing::debug!(%error, "nothing to roll back after a failed commit");
            }
            self.abandoned = false;
        }
        group.send_replace(Some(outcome));
    }
}

impl Writer {
    pub(crate) async fn open(options: &SqliteConnectOptions) -> Result<Self, Error> {
        let conn = options.connect().await?;
        let state = State {
            conn: Some(conn),
            group: None,
            abandoned: false,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    pub(crate) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.commit_group().await;
        if let Some(conn) = state.conn.take()
            && let Err(error) = conn.close().await
        {
            tracing::warn!(%error, "closing the SQLite writer failed");
        }
    }

    /// Waits for the connection and opens an operation on it. Must run to its end.
    pub(crate) fn begin(
        &self,
    ) -> impl Future<Output = Result<(Shared, OwnedMutexGuard<State>), Error>> + use<> {
        let shared = self.state.clone();
        async move {
            let mut state = shared.clone().lock_owned().await;
            if let Err(error) = state.begin().await {
                state.commit_group().await;
                return Err(error);
            }
            Ok((shared, state))
        }
    }
}

/// Ends an operation well and waits until its group is committed. Must run to its end.
pub(crate) async fn commit(shared: Shared, mut state: OwnedMutexGuard<State>) -> Result<(), Error> {
    if let Err(error) = state.conn().execute("RELEASE operation").await {
        // Answered with an error, so the group must not store it.
        abandon(shared, state);
        return Err(error.into());
    }
    let mut outcome = state
        .group
        .as_ref()
        .expect("an operation runs inside a group")
        .subscribe();
    drop(state);
    let ours = outcome.clone();
    tokio::select! {
        biased;
        () = ended(&mut outcome) => {}
        mut state = shared.lock_owned() => {
            // Our group, unless it ended while we queued.
            if ours.borrow().is_none() {
                state.commit_group().await;
            }
        }
    }
    let ended = ours.borrow().clone();
    match ended {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(Error::Commit(reason)),
        None => Err(Error::Commit("the writer went away".to_owned())),
    }
}

/// Waits until a group ended, or can never end.
async fn ended(outcome: &mut watch::Receiver<Outcome>) {
    if outcome.wait_for(Option::is_some).await.is_err() {
        tracing::debug!("the group's sender is gone");
    }
}

/// Marks a dropped operation for rollback, and sees to it even if nobody writes again.
pub(crate) fn abandon(shared: Shared, mut state: OwnedMutexGuard<State>) {
    state.abandoned = true;
    drop(state);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { shared.lock_owned().await.commit_group().await });
    }
}
