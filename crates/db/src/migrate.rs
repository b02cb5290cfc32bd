//! Forward-only migrations, a list per domain.

use sqlx::Executor;

use crate::conn::{Backend, Conn, Driver};
use crate::error::Error;
use crate::query::query;
use crate::sqlite;
use crate::{Db, Tx};

/// The migrations of one domain, oldest first; the version is the position, from 1.
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The domain's name: its crate.
    pub domain: &'static str,
    /// The steps.
    pub steps: &'static [Migration],
}

/// One step: its name and its statements for each database.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub name: &'static str,
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Migration {
    /// A step whose statements both databases understand.
    pub const fn both(name: &'static str, sql: &'static str) -> Self {
        Self {
            name,
            sqlite: sql,
            postgres: sql,
        }
    }
}

const LEDGER: &str = "
    CREATE TABLE IF NOT EXISTS asgard_migrations (
        domain TEXT NOT NULL,
        version BIGINT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (domain, version)
    );
    CREATE TABLE IF NOT EXISTS asgard_counters (
        name TEXT PRIMARY KEY,
        value BIGINT NOT NULL
    );";

/// Any number that no other program is likely to lock.
const ADVISORY_LOCK: i64 = 0x0061_7367_6172_6401;

pub(crate) async fn run(db: &Db, all: &[Migrations]) -> Result<(), Error> {
    let mut tx = db.begin().await?;
    if tx.backend() == Backend::Postgres {
        // Two processes that start together migrate one after the other.
        query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut tx)
            .await?;
    }
    execute_script(&mut tx, LEDGER).await?;
    for migrations in all {
        apply(&mut tx, migrations).await?;
    }
    tx.commit().await
}

async fn apply(tx: &mut Tx, migrations: &Migrations) -> Result<(), Error> {
    let domain = migrations.domain;
    let applied =
        query("SELECT version, name FROM asgard_migrations WHERE domain = $1 ORDER BY version")
            .bind(domain)
            .fetch_all(tx)
            .await?;
    for row in &applied {
        let version: i64 = row.get(0);
        let known = usize::try_from(version - 1)
            .ok()
            .and_then(|index| migrations.steps.get(index));
        let how = match known {
            None => "does not know",
            Some(step) if row.get::<String, _>(1) != step.name => "knows by another name",
            Some(_) => continue,
        };
        return Err(Error::Schema {
            domain: domain.to_owned(),
            version,
            how,
        });
    }
    for (index, step) in migrations.steps.iter().enumerate().skip(applied.len()) {
        let version = index as i64 + 1;
        let sql = match tx.backend() {
            Backend::Sqlite => step.sqlite,
            Backend::Postgres => step.postgres,
        };
        let applied = execute_script(tx, sql).await;
        applied.map_err(|error| Error::Migration {
            domain,
            version,
            name: step.name,
            source: Box::new(error),
        })?;
        query("INSERT INTO asgard_migrations (domain, version, name) VALUES ($1, $2, $3)")
            .bind(domain)
            .bind(version)
            .bind(step.name)
            .execute(tx)
            .await?;
        tracing::debug!(domain, version, name = step.name, "migrated");
    }
    Ok(())
}

/// Runs several statements at once; they can carry no values.
async fn execute_script(conn: &mut Conn, sql: &str) -> Result<(), Error> {
    match conn.driver() {
        Driver::Sqlite(c) => sqlite::blocking(|| c.execute_batch(sql))?,
        Driver::Postgres(c) => c.execute(sqlx::raw_sql(sql)).await.map(|_| ())?,
    }
    Ok(())
}
