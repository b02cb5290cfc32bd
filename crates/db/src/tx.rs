//! The transaction of one writing operation.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Executor, Postgres};

use crate::conn::{Conn, Kind, Shared};
use crate::error::Error;
use crate::sqlite_writer::{self, Writer};

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
        conn.execute("BEGIN").await?;
        Ok(Self {
            conn: Conn::postgres(conn),
            writer: None,
        })
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
                conn.execute("COMMIT").await?;
                Ok(())
            }
            Kind::SqliteReader(_) | Kind::Gone => {
                unreachable!("a transaction holds a writing connection")
            }
        }
    }
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
            Kind::SqliteReader(_) | Kind::Gone => {}
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
