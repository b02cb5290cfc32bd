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

/// A step as it stands in the database's own list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub domain: &'static str,
    /// Its position in the domain, from 1.
    pub version: i64,
    pub name: &'static str,
}

/// Applies what is missing, and tells what that was.
pub(crate) async fn run(db: &Db, all: &[Migrations]) -> Result<Vec<Step>, Error> {
    let mut tx = db.begin().await?;
    if tx.backend() == Backend::Postgres {
        // Two processes that start together migrate one after the other.
        query("SELECT pg_advisory_xact_lock($1)")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut tx)
            .await?;
    }
    execute_script(&mut tx, LEDGER).await?;
    let mut applied = Vec::new();
    for migrations in all {
        for (step, migration) in missing(&mut tx, migrations).await? {
            apply(&mut tx, step, migration).await?;
            applied.push(step);
        }
    }
    tx.commit().await?;
    Ok(applied)
}

/// What is missing; changes nothing.
pub(crate) async fn pending(db: &Db, all: &[Migrations]) -> Result<Vec<Step>, Error> {
    let mut conn = db.acquire().await?;
    let has_ledger = match conn.backend() {
        Backend::Sqlite => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'asgard_migrations'"
        }
        Backend::Postgres => "SELECT COUNT(to_regclass('asgard_migrations'))",
    };
    let row = query(has_ledger).fetch_one(&mut conn).await?;
    let has_ledger = row.get::<i64, _>(0) > 0;
    let mut steps = Vec::new();
    for migrations in all {
        if has_ledger {
            let found = missing(&mut conn, migrations).await?;
            steps.extend(found.into_iter().map(|(step, _)| step));
        } else {
            steps.extend(after(migrations, 0).map(|(step, _)| step));
        }
    }
    Ok(steps)
}

/// The steps of a domain after its first `applied` ones.
fn after(
    migrations: &Migrations,
    applied: usize,
) -> impl Iterator<Item = (Step, &'static Migration)> {
    let domain = migrations.domain;
    let steps = migrations.steps.iter().zip(1..).skip(applied);
    steps.map(move |(migration, version)| {
        let name = migration.name;
        let step = Step {
            domain,
            version,
            name,
        };
        (step, migration)
    })
}

/// The steps that this database has not seen; refuses one that has seen others.
async fn missing(
    conn: &mut Conn,
    migrations: &Migrations,
) -> Result<Vec<(Step, &'static Migration)>, Error> {
    let applied =
        query("SELECT version, name FROM asgard_migrations WHERE domain = $1 ORDER BY version")
            .bind(migrations.domain)
            .fetch_all(conn)
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
            domain: migrations.domain.to_owned(),
            version,
            how,
        });
    }
    Ok(after(migrations, applied.len()).collect())
}

async fn apply(tx: &mut Tx, step: Step, migration: &Migration) -> Result<(), Error> {
    let Step {
        domain,
        version,
        name,
    } = step;
    let sql = match tx.backend() {
        Backend::Sqlite => migration.sqlite,
        Backend::Postgres => migration.postgres,
    };
    let applied = execute_script(tx, sql).await;
    applied.map_err(|error| Error::Migration {
        domain,
        version,
        name,
        source: Box::new(error),
    })?;
    query("INSERT INTO asgard_migrations (domain, version, name) VALUES ($1, $2, $3)")
        .bind(domain)
        .bind(version)
        .bind(name)
        .execute(tx)
        .await?;
    tracing::debug!(domain, version, name, "migrated");
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
