//! What can go wrong with a database.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ffi::{
    SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE, SQLITE_FULL,
    SQLITE_IOERR_SHMSIZE,
};

/// A failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds the data directory.
    #[error(
        "{path} is in use by another asgard process{holder}; SQLite serves one process: stop the other one, choose another --data-dir, or set database.url to a PostgreSQL URL"
    )]
    Locked { path: PathBuf, holder: String },
    /// The data directory cannot be made or locked.
    #[error("cannot use the data directory {path}")]
    Directory {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The URL names no database that asgard speaks to.
    #[error("database.url {0:?} is neither postgres://USER:PASSWORD@HOST/NAME nor sqlite:PATH")]
    Url(String),
    /// The URL of another program's database names none that asgard reads.
    #[error(
        "{0:?} names no database that asgard reads; use sqlite:///PATH (four slashes for an absolute path) or postgresql://USER:PASSWORD@HOST/NAME"
    )]
    ForeignUrl(String),
    /// Another program's SQLite file is not there.
    #[error("there is no file {0}")]
    NoFile(PathBuf),
    /// A migration failed.
    #[error("migration {domain} {version} ({name}) failed")]
    Migration {
        domain: &'static str,
        version: i64,
        name: &'static str,
        source: Box<Error>,
    },
    /// A migration that this binary does not know, or knows differently, has been applied.
    #[error(
        "the database has migration {domain} {version}, which this version of asgard {how}; use the version that made it, or a newer one"
    )]
    Schema {
        domain: String,
        version: i64,
        how: &'static str,
    },
    /// The group commit that held this transaction failed.
    #[error("the commit failed")]
    Commit(#[source] Arc<Error>),
    /// What was written together with others failed for a reason that concerns all of them.
    #[error("writing together with others failed")]
    Together(#[source] Arc<Error>),
    /// The task that opened or committed the transaction ended before its time.
    #[error("the transaction was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// All connections are in use.
    #[error("no connection to the database came free in time")]
    Busy,
    /// The database has been closed.
    #[error("the database is closed")]
    Closed,
    /// A statement has a placeholder for which no value was bound.
    #[error("the statement's placeholder {0} has no value")]
    Placeholder(usize),
    /// A text to be stored or looked for holds a NUL, which PostgreSQL cannot keep; so SQLite is not
    /// given it either.
    #[error("a text holds a NUL character (\\u0000), which the database cannot keep")]
    Nul,
    /// An answer has no such column, or it holds another type.
    #[error("column {0} is missing or holds another type")]
    Column(String),
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL or its driver refused.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
}

impl Error {
    /// Whether a unique or primary-key constraint refused the row.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => matches!(
                e.extended_code,
                SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID
            ),
            Self::Sqlx(sqlx::Error::Database(e)) => e.is_unique_violation(),
            _ => false,
        }
    }

    /// Whether there was no room left for what was to be stored.
    pub fn is_full(&self) -> bool {
        match self {
            // The second when the index of the log cannot grow.
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => {
                matches!(e.extended_code, SQLITE_FULL | SQLITE_IOERR_SHMSIZE)
            }
            // disk_full.
            Self::Sqlx(sqlx::Error::Database(e)) => e.code().is_some_and(|code| code == "53100"),
            Self::Commit(error) | Self::Together(error) => error.is_full(),
            _ => false,
        }
    }

    /// Whether the request is at fault: one of its texts is none that a database keeps.
    pub fn is_refused_text(&self) -> bool {
        match self {
            Self::Nul => true,
            Self::Commit(error) | Self::Together(error) => error.is_refused_text(),
            _ => false,
        }
    }

    /// Whether PostgreSQL does not take a regular expression (invalid_regular_expression).
    pub fn is_refused_pattern(&self) -> bool {
        matches!(self, Self::Sqlx(sqlx::Error::Database(e)) if e.code().is_some_and(|code| code == "2201B"))
    }

    /// Whether the database cannot be reached or has no connection to spare now.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Busy | Self::Closed => true,
            Self::Sqlx(sqlx::Error::Database(e)) => e.code().is_some_and(|code| is_away(&code)),
            Self::Sqlx(error) => matches!(
                error,
                sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::Io(_)
                    | sqlx::Error::WorkerCrashed
            ),
            Self::Commit(error) | Self::Together(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// Whether a SQLSTATE says that the server goes down, is not up yet, or has no connection to spare:
/// admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections and the class of
/// connection exceptions (PostgreSQL, appendix A).
fn is_away(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03" | "53300") || code.starts_with("08")
}
