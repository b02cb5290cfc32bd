//! The databases: SQLite (one writer with group commit) and PostgreSQL behind one handle.
//!
//! A domain opens one transaction per operation ([`Db::begin`]), hands it to its store functions
//! as `&mut Conn`, and commits it. Plain reads take a connection from [`Db::acquire`]. Each
//! statement is written once in the SQL that both databases speak, with `$1` placeholders
//! ([`query`]); where PostgreSQL earns another text, [`Conn::backend`] chooses. Secrets lie in it
//! sealed ([`Seal`]), with a key that does not.

mod config;
mod conn;
mod counter;
mod error;
mod foreign;
mod listen;
mod lock;
mod migrate;
mod pattern;
mod query;
mod row;
mod seal;
mod sealing;
mod snapshot;
mod sqlite;
mod sqlite_readers;
mod sqlite_writer;
pub mod testing;
mod tx;

pub use config::Config;
pub use conn::{Backend, Conn};
pub use counter::{next_id, raise_to};
pub use error::Error;
pub use foreign::Foreign;
pub use listen::Listener;
pub use lock::DirLock;
pub use migrate::{Migration, Migrations, Step};
pub use pattern::{check_pattern, postgres_pattern};
pub use query::{Query, Value, query};
pub use row::{Cell, Column, Place, Row};
pub use seal::{Seal, SealError};
pub use sealing::seal_plain;
pub use snapshot::snapshot;
pub use tx::Tx;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor as _};

use sqlite_readers::Readers;

/// The name of the SQLite file in the data directory.
pub const SQLITE_FILE: &str = "asgard.db";

/// How long a connection to PostgreSQL counts as alive after its last use.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A database of asgard; cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

enum Inner {
    Sqlite {
        readers: Readers,
        writer: sqlite_writer::Writer,
        _lock: Option<lock::DirLock>,
    },
    Postgres {
        pool: PgPool,
    },
}

/// How a SQLite file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// With its folder, which no other process may hold.
    Alone,
    /// Without a lock, for tests, whose folders are their own.
    Unlocked,
    /// Beside whoever has it; nothing is written.
    Looking,
}

impl Db {
    /// Opens the database that `config` names, by default `asgard.db` in `data_dir`.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process uses the same SQLite directory, [`Error::Url`] for
    /// a URL that is neither `sqlite:` nor `postgres:`, else what the database says.
    pub async fn open(config: &Config, data_dir: &Path) -> Result<Self, Error> {
        match config.url.as_deref() {
            Some(url) if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Self::open_postgres(PgConnectOptions::from_str(url)?, config).await
            }
            url => match config.sqlite_file(data_dir) {
                Some(file) => Self::open_sqlite(&file, config, Manner::Alone),
                None => Err(Error::Url(config::without_password(
                    url.unwrap_or_default(),
                ))),
            },
        }
    }

    /// The same beside a process that holds the directory, to look at what is there. On SQLite nothing
    /// can be written by this, and the file must exist.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for [`Error::Locked`].
    pub async fn open_beside(config: &Config, data_dir: &Path) -> Result<Self, Error> {
        match config.sqlite_file(data_dir) {
            Some(file) => Self::open_sqlite(&file, config, Manner::Looking),
            None => Self::open(config, data_dir).await,
        }
    }

    fn open_sqlite(path: &Path, config: &Config, manner: Manner) -> Result<Self, Error> {
        let dir = path.parent().unwrap_or(Path::new("."));
        if manner != Manner::Looking {
            std::fs::create_dir_all(dir).map_err(|source| Error::Directory {
                path: dir.to_owned(),
                source,
            })?;
        }
        let lock = match manner {
            Manner::Alone => Some(lock::DirLock::acquire(dir)?),
            _ => None,
        };
        let file = sqlite::File::at(path);
        let writer = match manner {
            Manner::Looking => sqlite_writer::Writer::open_without_writing(&file)?,
            _ => sqlite_writer::Writer::open(&file)?,
        };
        let readers = Readers::open(file, config.max_connections, config.acquire_timeout())?;
        Ok(Self {
            inner: Arc::new(Inner::Sqlite {
                readers,
                writer,
                _lock: lock,
            }),
        })
    }

    async fn open_postgres(options: PgConnectOptions, config: &Config) -> Result<Self, Error> {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout())
            .test_before_acquire(false)
            .before_acquire(|conn, used| {
                // A question to the database before each request would double what small ones cost.
                let asks = used.idle_for >= TRUSTED_FOR;
                Box::pin(async move {
                    if asks {
                        conn.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|conn, _| {
                // The defaults are for turning disks and for reports: with them a search for a
                // page among very many runs reads whole tables.
                let set = conn.execute("SET random_page_cost = 1.1; SET jit = off");
                Box::pin(async move { set.await.map(|_| ()) })
            })
            .connect_with(
                options
                    .application_name("asgard")
                    .statement_cache_capacity(256),
            )
            .await?;
        Ok(Self {
            inner: Arc::new(Inner::Postgres { pool }),
        })
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        match &*self.inner {
            Inner::Sqlite { .. } => Backend::Sqlite,
            Inner::Postgres { .. } => Backend::Postgres,
        }
    }

    /// Takes a connection for reading. On SQLite it cannot write.
    pub async fn acquire(&self) -> Result<Conn, Error> {
        Ok(match &*self.inner {
            Inner::Sqlite { readers, .. } => Conn::reader(readers.acquire().await?),
            Inner::Postgres { pool } => Conn::postgres(pool.acquire().await?),
        })
    }

    /// Whether another connection can be had without waiting for one to be given back. SQLite's are
    /// not counted here: nobody keeps one.
    pub fn has_spare(&self) -> bool {
        match &*self.inner {
            Inner::Sqlite { .. } => true,
            Inner::Postgres { pool } => {
                let most = pool.options().get_max_connections();
                !pool.is_closed() && (pool.num_idle() > 0 || pool.size() < most)
            }
        }
    }

    /// Opens the transaction of one writing operation. Dropped without
    /// [`commit`](Tx::commit), it is rolled back.
    pub async fn begin(&self) -> Result<Tx, Error> {
        match &*self.inner {
            Inner::Sqlite { writer, .. } => Tx::sqlite(writer).await,
            Inner::Postgres { pool } => match Tx::postgres(pool.acquire().await?).await {
                // The database was started again since that connection was last used.
                Err(error) if error.is_unavailable() => Tx::postgres(pool.acquire().await?).await,
                opened => opened,
            },
        }
    }

    /// Applies every migration that this database has not seen, and tells which those were.
    ///
    /// # Errors
    /// [`Error::Migration`] names the step that failed; then none of them is applied.
    pub async fn migrate(&self, all: &[Migrations]) -> Result<Vec<Step>, Error> {
        migrate::run(self, all).await
    }

    /// The migrations that this database has not seen.
    ///
    /// # Errors
    /// [`Error::Schema`] when it has seen others than these.
    pub async fn pending(&self, all: &[Migrations]) -> Result<Vec<Step>, Error> {
        migrate::pending(self, all).await
    }

    /// Closes all connections; on SQLite the write-ahead log is folded into the file.
    pub async fn close(&self) {
        match &*self.inner {
            Inner::Sqlite {
                readers, writer, ..
            } => {
                readers.close();
                writer.close().await;
            }
            Inner::Postgres { pool } => pool.close().await,
        }
    }
}
