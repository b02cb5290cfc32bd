//! The online store that servers share: the newest row of each key, and what is known of views.

use db::{Backend, Conn, Error, query};

/// A row on its way in: its key, its times, its bytes.
#[derive(Debug, Clone)]
pub(crate) struct OnlineRow {
    pub(crate) key: Vec<u8>,
    pub(crate) us: i64,
    pub(crate) created: Option<i64>,
    pub(crate) row: Vec<u8>,
}

/// What makes a row that is there give way: the same again is written too, for it may have features
/// that the old one lacks.
const NEWER: &str = "ON CONFLICT (view, entity_key) DO UPDATE SET
        us = excluded.us, created = excluded.created, content = excluded.content
     WHERE feature_online_rows.us < excluded.us
        OR (feature_online_rows.us = excluded.us
            AND (feature_online_rows.created IS NULL
                 OR feature_online_rows.created <= excluded.created))";

/// Writes rows, each key once; one that is older than what is there changes nothing. Gives how many
/// did.
pub(crate) async fn upsert(conn: &mut Conn, view: &str, rows: &[OnlineRow]) -> Result<u64, Error> {
    match conn.backend() {
        Backend::Sqlite => upsert_each(conn, view, rows).await,
        Backend::Postgres => upsert_all(conn, view, rows).await,
    }
}

async fn upsert_each(conn: &mut Conn, view: &str, rows: &[OnlineRow]) -> Result<u64, Error> {
    let mut upsert = query(format!(
        "INSERT INTO feature_online_rows (view, entity_key, us, created, content)
         VALUES ($1, $2, $3, $4, $5) {NEWER}"
    ));
    for row in rows {
        upsert = upsert
            .bind(view)
            .bind(row.key.clone())
            .bind(row.us)
            .bind(row.created)
            .bind(row.row.clone());
    }
    upsert.execute_each(conn, 5).await
}

/// PostgreSQL takes all rows in one call.
async fn upsert_all(conn: &mut Conn, view: &str, rows: &[OnlineRow]) -> Result<u64, Error> {
    let texts = |bytes: fn(&OnlineRow) -> &[u8]| -> Vec<String> {
        rows.iter().map(|row| hex(bytes(row))).collect()
    };
    let created = rows.iter().map(|row| row.created.unwrap_or_default());
    let has_created: Vec<bool> = rows.iter().map(|row| row.created.is_some()).collect();
    query(format!(
        "INSERT INTO feature_online_rows (view, entity_key, us, created, content)
         SELECT $1, decode(k, 'hex'), us, CASE WHEN has THEN created END, decode(c, 'hex')
         FROM UNNEST($2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::BOOL[], $6::TEXT[])
            AS new (k, us, created, has, c)
         {NEWER}"
    ))
    .bind(view)
    .bind(texts(|row| &row.key))
    .bind(rows.iter().map(|row| row.us).collect::<Vec<i64>>())
    .bind(created.collect::<Vec<i64>>())
    .bind(has_created)
    .bind(texts(|row| &row.row))
    .execute(conn)
    .await
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// How many keys one statement asks for.
const KEYS: usize = 500;

/// The rows of some keys, each with its key; keys without one are left out.
pub(crate) async fn find(
    conn: &mut Conn,
    view: &str,
    keys: &[&[u8]],
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(KEYS) {
        let places: Vec<String> = (2..keys.len() + 2).map(|n| format!("${n}")).collect();
        let rows = query(format!(
            "SELECT entity_key, content FROM feature_online_rows
             WHERE view = $1 AND entity_key IN ({})",
            places.join(", ")
        ))
        .bind(view)
        .bind_all(keys.iter().map(|key| key.to_vec()))
        .fetch_all(conn)
        .await?;
        found.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    Ok(found)
}

pub(crate) async fn count(conn: &mut Conn, view: &str) -> Result<i64, Error> {
    let row = query("SELECT COUNT(*) FROM feature_online_rows WHERE view = $1")
        .bind(view)
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

pub(crate) async fn delete(conn: &mut Conn, view: &str) -> Result<(), Error> {
    query("DELETE FROM feature_online_rows WHERE view = $1")
        .bind(view)
        .execute(conn)
        .await?;
    Ok(())
}

/// What is known of a view beside its rows.
pub(crate) async fn find_about(conn: &mut Conn, view: &str) -> Result<Option<String>, Error> {
    let row = query("SELECT about FROM feature_online_views WHERE view = $1")
        .bind(view)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// The same, and keeps others from changing it until the transaction ends.
pub(crate) async fn lock_about(conn: &mut Conn, view: &str) -> Result<Option<String>, Error> {
    // An update that changes nothing holds the row on both databases.
    query(
        "INSERT INTO feature_online_views (view, about) VALUES ($1, '')
         ON CONFLICT (view) DO UPDATE SET about = feature_online_views.about",
    )
    .bind(view)
    .execute(conn)
    .await?;
    Ok(find_about(conn, view)
        .await?
        .filter(|about| !about.is_empty()))
}

/// The same, while others may only read it until the transaction ends.
pub(crate) async fn hold_about(conn: &mut Conn, view: &str) -> Result<Option<String>, Error> {
    // SQLite has one writer at a time.
    let hold = match conn.backend() {
        Backend::Sqlite => "",
        Backend::Postgres => "FOR SHARE",
    };
    let row = query(format!(
        "SELECT about FROM feature_online_views WHERE view = $1 {hold}"
    ))
    .bind(view)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.get(0)))
}

pub(crate) async fn set_about(conn: &mut Conn, view: &str, about: &str) -> Result<(), Error> {
    query("UPDATE feature_online_views SET about = $2 WHERE view = $1")
        .bind(view)
        .bind(about)
        .execute(conn)
        .await?;
    Ok(())
}
