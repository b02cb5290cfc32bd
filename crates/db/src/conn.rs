//! One connection to either database.

use rusqlite::Connection;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tokio::sync::OwnedMutexGuard;

use crate::sqlite_readers::Reader;
use crate::sqlite_writer::State;

/// Which database a connection speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// A connection that store functions take as `&mut Conn`.
pub struct Conn(pub(crate) Kind);

pub(crate) enum Kind {
    /// The one connection that writes, held for the length of one transaction.
    SqliteWriter(OwnedMutexGuard<State>),
    SqliteReader(Reader),
    /// Another program's file.
    SqliteForeign(Connection),
    Postgres(PoolConnection<Postgres>),
    /// Taken away by a commit; never seen by a store function.
    Gone,
}

pub(crate) enum Driver<'c> {
    Sqlite(&'c mut Connection),
    Postgres(&'c mut PgConnection),
}

impl Conn {
    pub(crate) fn reader(conn: Reader) -> Self {
        Self(Kind::SqliteReader(conn))
    }

    pub(crate) fn foreign(conn: Connection) -> Self {
        Self(Kind::SqliteForeign(conn))
    }

    pub(crate) fn postgres(conn: PoolConnection<Postgres>) -> Self {
        Self(Kind::Postgres(conn))
    }

    /// Which database this connection speaks to.
    pub fn backend(&self) -> Backend {
        match self.0 {
            Kind::Postgres(_) => Backend::Postgres,
            _ => Backend::Sqlite,
        }
    }

    pub(crate) fn driver(&mut self) -> Driver<'_> {
        match &mut self.0 {
            Kind::SqliteWriter(state) => Driver::Sqlite(state.conn()),
            Kind::SqliteReader(conn) => Driver::Sqlite(conn.conn()),
            Kind::SqliteForeign(conn) => Driver::Sqlite(conn),
            Kind::Postgres(conn) => Driver::Postgres(conn),
            Kind::Gone => unreachable!(
                "a connection is only taken by its transaction's commit, which consumes it"
            ),
        }
    }
}
