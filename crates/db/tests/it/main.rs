//! The promises of the database handle, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use db::testing::{both, postgres, sqlite};
use db::{Config, Db, Error, Migration, Migrations, next_id, query};
use tokio::runtime::Runtime;

const SCHEMA: &[Migrations] = &[Migrations {
    domain: "test",
    steps: &[Migration::both(
        "notes",
        "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT NOT NULL, weight DOUBLE PRECISION, flag BOOLEAN)",
    )],
}];

async fn insert(db: &Db, id: i64) -> Result<(), Error> {
    let mut tx = db.begin().await?;
    query("INSERT INTO notes (id, text, weight, flag) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind("hello")
        .bind(None::<f64>)
        .bind(true)
        .execute(&mut tx)
        .await?;
    tx.commit().await
}

async fn count(db: &Db) -> i64 {
    let mut conn = db.acquire().await.unwrap();
    query("SELECT COUNT(*) FROM notes")
        .fetch_one(&mut conn)
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn what_is_committed_is_read_back() {
    for db in both(SCHEMA).await {
        insert(&db, 1).await.unwrap();
        let mut conn = db.acquire().await.unwrap();
        let row = query("SELECT id, text, weight, flag FROM notes")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>("id"), 1, "{}", db.name);
        assert_eq!(row.get::<Option<f64>, _>("weight"), None);
        assert!(row.get::<bool, _>(3));
    }
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_and_blocks_nobody() {
    for db in both(SCHEMA).await {
        {
            let mut tx = db.begin().await.unwrap();
            query("INSERT INTO notes (id, text) VALUES (1, 'x')")
                .execute(&mut tx)
                .await
                .unwrap();
        }
        insert(&db, 1).await.unwrap();
        assert_eq!(count(&db).await, 1, "{}", db.name);
    }
}

#[tokio::test]
async fn a_refused_row_does_not_harm_its_neighbours_in_the_group() {
    for db in both(SCHEMA).await {
        let db = Arc::new(db);
        let writers: Vec<_> = (0..200)
            .map(|i| {
                let db = db.clone();
                tokio::spawn(async move { insert(&db, i % 100).await })
            })
            .collect();
        let mut refused = 0;
        for writer in writers {
            match writer.await.unwrap() {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.is_unique_violation(), "{error}");
                    refused += 1;
                }
            }
        }
        assert_eq!((refused, count(&db).await), (100, 100), "{}", db.name);
    }
}

#[tokio::test]
async fn an_operation_that_cannot_end_is_not_stored() {
    let db = sqlite(SCHEMA).await;
    let mut tx = db.begin().await.unwrap();
    query("INSERT INTO notes (id, text) VALUES (1, 'x')")
        .execute(&mut tx)
        .await
        .unwrap();
    // Takes away what the commit releases.
    query("RELEASE operation").execute(&mut tx).await.unwrap();
    assert!(tx.commit().await.is_err());
    insert(&db, 2).await.ok();
    insert(&db, 3).await.unwrap();
    let mut conn = db.acquire().await.unwrap();
    let refused = query("SELECT id FROM notes WHERE id = 1")
        .fetch_optional(&mut conn)
        .await
        .unwrap();
    assert!(refused.is_none());
}

#[tokio::test]
async fn an_acknowledged_commit_survives_a_loss_of_power() {
    let db = sqlite(SCHEMA).await;
    let mut tx = db.begin().await.unwrap();
    let row = query("PRAGMA synchronous")
        .fetch_one(&mut tx)
        .await
        .unwrap();
    // FULL: each commit syncs the log.
    assert_eq!(row.get::<i64, _>(0), 2);
}

#[tokio::test]
async fn a_writer_that_is_cancelled_while_it_waits_blocks_nobody() {
    let db = Arc::new(sqlite(SCHEMA).await);
    let held = db.begin().await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { insert(&db, 1).await }
    });
    tokio::task::yield_now().await;
    waiting.abort();
    drop(held);
    insert(&db, 2).await.unwrap();
    assert!(count(&db).await >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_writer_that_is_cancelled_at_any_moment_harms_nobody() {
    for db in both(SCHEMA).await {
        let db = Arc::new(db);
        for id in 0..300 {
            let writer = tokio::spawn({
                let db = db.clone();
                async move { insert(&db, id).await }
            });
            // Tokio's timers are too coarse to end it between two statements.
            std::thread::sleep(Duration::from_micros(id.unsigned_abs() * 3));
            writer.abort();
            writer.await.ok();
        }
        // What was on its way to a commit still gets there, before a later writer.
        insert(&db, 999_999).await.unwrap();
        let before = count(&db).await;
        insert(&db, 1_000_000).await.unwrap();
        assert_eq!(count(&db).await, before + 1, "{}", db.name);
    }
}

/// A runtime that does nothing while it is not entered.
fn idle_runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Begins to write; what is returned is only waiting for the commit.
fn writing(runtime: &Runtime, db: &Db, id: i64) -> impl Future<Output = Result<(), Error>> + use<> {
    let db = db.clone();
    let mut writing = Box::pin(async move { insert(&db, id).await });
    runtime.block_on(async { assert!(futures_util::poll!(&mut writing).is_pending()) });
    writing
}

#[test]
fn a_runtime_that_ends_before_its_commit_holds_up_nobody() {
    let (one, other) = (idle_runtime(), idle_runtime());
    let db = other.block_on(sqlite(SCHEMA));
    // The first one of the group is to commit it.
    let dropped = writing(&one, &db, 1);
    let waiting = writing(&other, &db, 2);
    drop(one);
    let patience = Duration::from_secs(60);
    let waited = other.block_on(async { tokio::time::timeout(patience, waiting).await });
    waited.unwrap().unwrap();
    drop(dropped);

    let one = idle_runtime();
    drop(writing(&one, &db, 3));
    drop(one);
    let later = other.block_on(async { tokio::time::timeout(patience, insert(&db, 4)).await });
    later.unwrap().unwrap();
    assert_eq!(other.block_on(count(&db)), 4);
}

#[test]
fn a_runtime_that_is_torn_down_at_any_moment_holds_up_nobody() {
    let main = Runtime::new().unwrap();
    let db = Arc::new(main.block_on(sqlite(SCHEMA)));
    for round in 0..100_i64 {
        let other = Runtime::new().unwrap();
        for id in 0..20 {
            let db = db.clone();
            other.spawn(async move { insert(&db, round * 100 + id).await });
        }
        let beside = main.spawn({
            let db = db.clone();
            async move { insert(&db, round * 100 + 50).await }
        });
        std::thread::sleep(Duration::from_micros(round.unsigned_abs() * 20));
        other.shutdown_background();
        let patience = Duration::from_secs(60);
        let ended = main.block_on(async {
            tokio::time::timeout(patience, insert(&db, round * 100 + 51)).await??;
            tokio::time::timeout(patience, beside)
                .await??
                .map_err(Box::<dyn std::error::Error>::from)
        });
        ended.unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[tokio::test]
async fn a_reader_that_comes_while_a_write_is_open_does_not_wait_for_it() {
    let db = sqlite(SCHEMA).await;
    let mut write = db.begin().await.unwrap();
    query("INSERT INTO notes (id, text) VALUES (1, 'x')")
        .execute(&mut write)
        .await
        .unwrap();
    let first = db.acquire().await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(2), db.acquire()).await;
    assert!(second.unwrap().is_ok());
    drop(first);
}

#[tokio::test]
async fn counters_count_up() {
    for db in both(SCHEMA).await {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(next_id(&mut tx, "a").await.unwrap(), 1);
        assert_eq!(next_id(&mut tx, "a").await.unwrap(), 2);
        assert_eq!(next_id(&mut tx, "b").await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_and_an_unknown_step_is_refused() {
    for db in both(SCHEMA).await {
        db.migrate(SCHEMA).await.unwrap();
        let older = [Migrations {
            domain: "test",
            steps: &[],
        }];
        assert!(
            matches!(db.migrate(&older).await, Err(Error::Schema { .. })),
            "{}",
            db.name
        );
    }
}

#[tokio::test]
async fn a_second_process_is_refused_the_sqlite_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Db::open(&Config::default(), dir.path()).await.unwrap();
    let second = Db::open(&Config::default(), dir.path()).await;
    assert!(matches!(second, Err(Error::Locked { .. })));
    first.close().await;
    drop(first);
    Db::open(&Config::default(), dir.path()).await.unwrap();
}

#[tokio::test]
async fn who_looks_beside_a_server_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&Config::default(), dir.path()).await.unwrap();
    db.migrate(SCHEMA).await.unwrap();
    insert(&db, 1).await.unwrap();
    let beside = Db::open_beside(&Config::default(), dir.path())
        .await
        .unwrap();
    assert_eq!(count(&beside).await, 1);
    assert!(beside.pending(SCHEMA).await.unwrap().is_empty());
    insert(&beside, 2).await.unwrap_err();
    beside.close().await;
    insert(&db, 2).await.unwrap();
    assert_eq!(count(&db).await, 2);
    db.close().await;
    let empty = tempfile::tempdir().unwrap();
    let none = Db::open_beside(&Config::default(), &empty.path().join("none")).await;
    assert!(none.is_err());
    assert!(!empty.path().join("none").exists());
}

#[tokio::test]
async fn a_url_of_another_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        url: Some("mysql://u:p@h/d".into()),
        ..Config::default()
    };
    let error = Db::open(&config, dir.path()).await.err().unwrap();
    assert!(error.to_string().contains("mysql://u:***@h/d"), "{error}");
}

#[tokio::test]
async fn a_transaction_begins_although_the_database_closed_the_connection() {
    let db = postgres(SCHEMA).await;
    let other = db.elsewhere().await;
    let mut conn = db.acquire().await.unwrap();
    let asked = query("SELECT CAST(pg_backend_pid() AS BIGINT)")
        .fetch_one(&mut conn)
        .await;
    let pid: i64 = asked.unwrap().get(0);
    drop(conn);
    let mut conn = other.acquire().await.unwrap();
    let ends = query("SELECT pg_terminate_backend(CAST($1::BIGINT AS INT))").bind(pid);
    ends.fetch_one(&mut conn).await.unwrap();
    insert(&db, 1).await.unwrap();
    // The closed connection may still be the pool's next.
    assert_eq!(count(&other).await, 1);
}

#[tokio::test]
async fn a_text_with_a_nul_is_refused_by_both_and_harms_nobody() {
    for db in both(SCHEMA).await {
        let mut tx = db.begin().await.unwrap();
        let stored = query("INSERT INTO notes (id, text) VALUES (1, $1)").bind("a\0b");
        let refused = stored.execute(&mut tx).await.unwrap_err();
        assert!(refused.is_refused_text(), "{}: {refused}", db.name);
        drop(tx);
        let mut conn = db.acquire().await.unwrap();
        let asked = query("SELECT id FROM notes WHERE text = $1").bind("a\0b");
        let refused = asked.fetch_all(&mut conn).await.err().unwrap();
        assert!(refused.is_refused_text(), "{}: {refused}", db.name);
        drop(conn);
        insert(&db, 1).await.unwrap();
        assert_eq!(count(&db).await, 1, "{}", db.name);
    }
}
