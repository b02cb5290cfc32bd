//! SQLite: how its connections are opened, and statements run on them.
//!
//! A statement runs on the thread that asks for it. A point read or a row's insert takes some
//! microseconds, less than waking another thread; what may take longer goes through [`blocking`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::Error;
use crate::pattern;
use crate::query::Value;
use crate::row::{Answer, Row};

/// Statements that a connection keeps prepared.
const PREPARED: usize = 256;

/// How long to wait for another process's lock, such as a backup's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

/// Both stay with the file, so only the writer sets them: setting them again waits for the write
/// lock. In WAL mode anything less than FULL syncs at checkpoints only, and a loss of power takes
/// acknowledged commits with it. Group commit shares the price.
const WRITER: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;";

const READER: &str = "
    PRAGMA query_only = ON;
    PRAGMA mmap_size = 268435456;";

const EVERY: &str = "
    PRAGMA foreign_keys = ON;
    PRAGMA case_sensitive_like = ON;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;";

/// A SQLite file.
#[derive(Debug, Clone)]
pub(crate) struct File(pub(crate) PathBuf);

impl File {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Opens the connection that writes; makes the file if there is none.
    pub(crate) fn open_writer(&self) -> Result<Connection, Error> {
        blocking(|| self.open(OpenFlags::SQLITE_OPEN_CREATE, WRITER))
    }

    /// Opens a connection that cannot write.
    pub(crate) fn open_reader(&self) -> Result<Connection, Error> {
        blocking(|| self.open(OpenFlags::empty(), READER))
    }

    /// Opens a connection beside those of the process that serves the file.
    pub(crate) fn open_plain(&self) -> Result<Connection, Error> {
        blocking(|| self.open(OpenFlags::empty(), ""))
    }

    /// Opens the file of another program, which is not changed.
    pub(crate) fn open_foreign(&self) -> Result<Connection, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.0, flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch("BEGIN")?;
        Ok(conn)
    }

    fn open(&self, flags: OpenFlags, pragmas: &str) -> Result<Connection, Error> {
        // One connection is used by one thread at a time, so it needs no lock of its own.
        let usual = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.0, usual | flags)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.set_prepared_statement_cache_capacity(PREPARED);
        pattern::define(&conn)?;
        conn.execute_batch(EVERY)?;
        conn.execute_batch(pragmas)?;
        Ok(conn)
    }
}

/// Runs what may wait for the disk or take long, and lets other tasks go on meanwhile.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Runs a statement and tells how many rows it touched.
pub(crate) fn execute(conn: &Connection, sql: &str, values: &[Value]) -> Result<u64, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, values)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(conn.changes())
}

/// Runs a statement for every `width` values and tells how many rows it touched.
pub(crate) fn execute_each(
    conn: &Connection,
    sql: &str,
    values: &[Value],
    width: usize,
) -> Result<u64, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut touched = 0;
    for values in values.chunks(width) {
        bind(&mut statement, values)?;
        touched += statement.raw_execute()? as u64;
    }
    Ok(touched)
}

/// The first `most` rows of the answer.
pub(crate) fn fetch(
    conn: &Connection,
    sql: &str,
    values: &[Value],
    most: usize,
) -> Result<Vec<Row>, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, values)?;
    let mut answer = Answer::new(statement.column_names());
    let mut rows = statement.raw_query();
    let mut left = most;
    while left > 0
        && let Some(row) = rows.next()?
    {
        answer.push(row)?;
        left -= 1;
    }
    Ok(answer.into_rows())
}

/// Hands every row to `each`.
pub(crate) fn for_each(
    conn: &Connection,
    sql: &str,
    values: &[Value],
    mut each: impl FnMut(&Row),
) -> Result<(), Error> {
    let mut statement = conn.prepare_cached(sql)?;
    bind(&mut statement, values)?;
    let mut held = Row::reused(Answer::new(statement.column_names()));
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        held.replace(row)?;
        each(&held);
    }
    Ok(())
}

/// Hands the rows to `each` in lists of at most `size`.
pub(crate) async fn in_chunks<E: From<Error>>(
    conn: &Connection,
    sql: &str,
    values: &[Value],
    size: usize,
    mut each: impl AsyncFnMut(Vec<Row>) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement = conn.prepare_cached(sql).map_err(Error::from)?;
    bind(&mut statement, values)?;
    let names: Vec<String> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut rows = statement.raw_query();
    loop {
        let mut answer = Answer::new(names.iter().map(String::as_str));
        let mut held = 0;
        while held < size
            && let Some(row) = rows.next().map_err(Error::from)?
        {
            answer.push(row)?;
            held += 1;
        }
        if held == 0 {
            return Ok(());
        }
        each(answer.into_rows()).await?;
    }
}

/// SQLite takes `$2` as a name and counts by first appearance; here it is the second value. A
/// placeholder without a name (`?`) is the next one.
fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), Error> {
    for index in 1..=statement.parameter_count() {
        let number = match statement.parameter_name(index) {
            Some(name) => name[1..].parse().ok(),
            None => Some(index),
        };
        let value = number.and_then(|number: usize| values.get(number - 1));
        let value = value.ok_or(Error::Placeholder(index))?;
        value.check()?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Int(Some(v)) => ValueRef::Integer(*v),
            Self::Float(Some(v)) => ValueRef::Real(*v),
            Self::Bool(Some(v)) => ValueRef::Integer(i64::from(*v)),
            Self::Text(Some(v)) => ValueRef::Text(v.as_bytes()),
            Self::Bytes(Some(v)) => ValueRef::Blob(v),
            Self::Int(None)
            | Self::Float(None)
            | Self::Bool(None)
            | Self::Text(None)
            | Self::Bytes(None) => ValueRef::Null,
            Self::Ints(_) | Self::Floats(_) | Self::Bools(_) | Self::Texts(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    "SQLite takes no lists".into(),
                ));
            }
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}
