//! Databases for tests: an empty SQLite file and an empty PostgreSQL schema, migrated.
//!
//! The PostgreSQL server is the one that `ASGARD_TEST_POSTGRES_URL` names; `scripts/test` starts
//! one. Without it a test that needs it fails and says so: it is never skipped in silence.

use std::ops::Deref;
use std::str::FromStr;

use sqlx::Executor;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use crate::{Config, Db, Migrations, SQLITE_FILE};

/// A database that lives as long as the test.
pub struct TestDb {
    db: Db,
    /// `sqlite` or `postgres`, for messages.
    pub name: &'static str,
    /// The URL by which another process opens the same database; none for SQLite, which serves one.
    pub url: Option<String>,
    _dir: Option<TempDir>,
}

impl Deref for TestDb {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

impl TestDb {
    /// The same database as another process has it: on PostgreSQL with connections of its own,
    /// which die with the runtime that opened them. SQLite serves one process, so there it is the
    /// same handle; a commit that one runtime leaves undone is done by the other.
    ///
    /// # Panics
    /// When the PostgreSQL server does not answer.
    pub async fn elsewhere(&self) -> Db {
        let Some(url) = &self.url else {
            return self.db.clone();
        };
        let options = PgConnectOptions::from_str(url).expect("the URL made by `postgres`");
        Db::open_postgres(options, &connections(4))
            .await
            .expect("another connection to the schema")
    }
}

fn connections(max_connections: u32) -> Config {
    Config {
        max_connections,
        ..Config::default()
    }
}

/// Both databases, empty but for the migrations. Run the same test on each.
///
/// # Panics
/// When a database cannot be made; the message says what is missing.
pub async fn both(migrations: &[Migrations]) -> [TestDb; 2] {
    [sqlite(migrations).await, postgres(migrations).await]
}

/// An empty SQLite database.
///
/// # Panics
/// When the file cannot be made.
pub async fn sqlite(migrations: &[Migrations]) -> TestDb {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open_sqlite(
        &dir.path().join(SQLITE_FILE),
        &Config::default(),
        crate::Manner::Unlocked,
    )
    .expect("an empty SQLite database");
    db.migrate(migrations)
        .await
        .expect("migrations apply on SQLite");
    TestDb {
        db,
        name: "sqlite",
        url: None,
        _dir: Some(dir),
    }
}

/// An empty schema of its own on the test PostgreSQL server.
///
/// # Panics
/// When `ASGARD_TEST_POSTGRES_URL` is not set or the server does not answer.
pub async fn postgres(migrations: &[Migrations]) -> TestDb {
    let url = std::env::var("ASGARD_TEST_POSTGRES_URL")
        .expect("ASGARD_TEST_POSTGRES_URL is not set: run the tests by scripts/test, which starts a PostgreSQL server");
    let options =
        PgConnectOptions::from_str(&url).expect("ASGARD_TEST_POSTGRES_URL is a postgres:// URL");
    let schema = format!("t{}", ulid::Ulid::new().to_string().to_lowercase());
    let admin = Db::open_postgres(options.clone(), &connections(1))
        .await
        .expect("the test PostgreSQL server answers");
    if let crate::Inner::Postgres { pool } = &*admin.inner {
        pool.execute(format!("CREATE SCHEMA {schema}").as_str())
            .await
            .expect("a new schema");
    }
    admin.close().await;
    let options = options.options([("search_path", schema.as_str())]);
    let db = Db::open_postgres(options, &connections(4))
        .await
        .expect("a connection to the new schema");
    db.migrate(migrations)
        .await
        .expect("migrations apply on PostgreSQL");
    TestDb {
        db,
        name: "postgres",
        url: Some(format!("{url}?options[search_path]={schema}")),
        _dir: None,
    }
}
