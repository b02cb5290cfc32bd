//! Telling the other servers on the same PostgreSQL that something changed.
//!
//! A message says only that looking again is worth while. SQLite serves one process, which has
//! nobody to tell.

use sqlx::postgres::{PgListener, PgPoolOptions};

use crate::conn::{Backend, Conn};
use crate::error::Error;
use crate::query::query;
use crate::{Db, Inner};

/// What the servers on one database tell each other.
pub struct Listener(PgListener);

impl Db {
    /// Begins to listen on a channel; none on SQLite.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn listen(&self, channel: &str) -> Result<Option<Listener>, Error> {
        let Inner::Postgres { pool } = &*self.inner else {
            return Ok(None);
        };
        // A connection beside the pool, which requests would wait for.
        let own = PgPoolOptions::new().max_connections(1);
        let own = own.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.listen(channel).await?;
        Ok(Some(Listener(listener)))
    }
}

impl Listener {
    /// Waits for the next message. A connection that was lost and is there again counts as one:
    /// something may have been said meanwhile.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn heard(&mut self) -> Result<(), Error> {
        self.0.try_recv().await?;
        Ok(())
    }
}

impl Conn {
    /// Tells all servers on a channel, when this transaction commits; nothing on SQLite.
    pub async fn notify(&mut self, channel: &str) -> Result<(), Error> {
        if self.backend() == Backend::Postgres {
            query("SELECT pg_notify($1, '')")
                .bind(channel)
                .execute(self)
                .await?;
        }
        Ok(())
    }
}
