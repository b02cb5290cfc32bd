//! A database of another program: one connection that sees one moment of it and changes nothing.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::str::FromStr;

use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::config::without_password;
use crate::conn::Conn;
use crate::error::Error;
use crate::sqlite::File;

/// An open read-only transaction on another program's database; use it as `&mut Conn`.
pub struct Foreign(Conn);

impl Foreign {
    /// Opens what a SQLAlchemy URL names: `sqlite:///relative.db`, `sqlite:////absolute.db`,
    /// `postgresql://...`, with or without a driver (`postgresql+psycopg2://`).
    ///
    /// # Errors
    /// [`Error::ForeignUrl`] for another kind of URL, [`Error::NoFile`] for a file that is not
    /// there, else what the database says.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let refused = || Error::ForeignUrl(without_password(url));
        let (scheme, rest) = url.split_once("://").ok_or_else(refused)?;
        match scheme.split('+').next() {
            Some("sqlite") => {
                let path = rest.strip_prefix('/').filter(|path| !path.is_empty());
                let path = path.and_then(|path| path.split('?').next());
                Self::open_sqlite(Path::new(path.ok_or_else(refused)?))
            }
            Some("postgresql" | "postgres") => {
                let options = PgConnectOptions::from_str(&format!("postgres://{rest}"))?;
                Self::open_postgres(options).await
            }
            _ => Err(refused()),
        }
    }

    fn open_sqlite(path: &Path) -> Result<Self, Error> {
        if !path.is_file() {
            return Err(Error::NoFile(path.to_owned()));
        }
        Ok(Self(Conn::foreign(File::at(path).open_foreign()?)))
    }

    async fn open_postgres(options: PgConnectOptions) -> Result<Self, Error> {
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options.application_name("asgard import"));
        let mut conn = pool.await?.acquire().await?;
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        Ok(Self(Conn::postgres(conn)))
    }
}

impl Deref for Foreign {
    type Target = Conn;
    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Foreign {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}
