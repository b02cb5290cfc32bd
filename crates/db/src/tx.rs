//! The transaction of one writing operation.
//!
//! A request may be dropped at any await, when its client goes away. On PostgreSQL opening and
//! committing must not be left half way, so each runs as a task of its own: the caller's end does
//! not end it. A transaction that comes up for nobody is dropped, and so rolled back.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Executor, Postgres};
use tracing::Instrument;

use crate::conn::{Conn, Kind};
use crate::error::Error;
use crate::sqlite_writer::{self, Shared, Writer};

/// An open transaction; use it as `&mut Conn`. Dropping it rolls it back.
pub struct Tx {
    conn: Conn,
    writer: Option<Shared>,
}

impl Tx {
    pub(crate) async fn sqlite(writer: &Writer) -> Result<Self, Error> {
        let (shared, state) = writer.begin().await?;
        Ok(Self {
            conn: Conn(Kind::SqliteWriter(state)),
            writer: Some(shared),
        })
    }

    pub(crate) async fn postgres(mut conn: PoolConnection<Postgres>) -> Result<Self, Error> {
        to_the_end(async move {
            conn.execute("BEGIN").await?;
            Ok(Self {
                conn: Conn::postgres(conn),
                writer: None,
            })
        })
        .await
    }

    /// Makes the operation durable; returns once it is.
    ///
    /// # Errors
    /// [`Error::Commit`] when the commit that held this operation failed: nothing of it remains.
    pub async fn commit(mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.conn.0, Kind::Gone) {
            Kind::SqliteWriter(state) => {
                let shared = self
                    .writer
                    .take()
                    .expect("a SQLite transaction knows its writer");
                sqlite_writer::commit(shared, state).await
            }
            Kind::Postgres(mut conn) => {
                to_the_end(async move {
                    conn.execute("COMMIT").await?;
                    Ok(())
                })
                .await
            }
            Kind::SqliteReader(_) | Kind::SqliteForeign(_) | Kind::Gone => {
                unreachable!("a transaction holds a writing connection")
            }
        }
    }
}

/// Runs `work` to its end even if the caller is dropped meanwhile.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.in_current_span())
        .await
        .unwrap_or_else(|ended| Err(Error::Interrupted(ended)))
}

impl Drop for Tx {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.conn.0, Kind::Gone) {
            Kind::SqliteWriter(state) => {
                if let Some(shared) = self.writer.take() {
                    sqlite_writer::abandon(shared, state);
                }
            }
            Kind::Postgres(mut conn) => {
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        if let Err(error) = conn.execute("ROLLBACK").await {
                            tracing::warn!(%error, "rolling back failed; the connection is dropped");
                            drop(conn.detach());
                        }
                    });
                } else {
                    drop(conn.detach());
                }
            }
            Kind::SqliteReader(_) | Kind::SqliteForeign(_) | Kind::Gone => {}
        }
    }
}

impl Deref for Tx {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
