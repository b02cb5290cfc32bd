//! The table of API keys.

use db::{Conn, Error, Migration, Migrations, Row, query};
use web::Role;

use crate::key::Key;

pub(crate) const MIGRATIONS: Migrations = Migrations {
    domain: "asgard",
    steps: &[Migration {
        name: "api_keys",
        sqlite: "
            CREATE TABLE api_keys (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                role TEXT NOT NULL,
                secret_sha256 BLOB NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT,
                revoked_at BIGINT,
                last_used_at BIGINT
            );
            CREATE INDEX api_keys_name ON api_keys (name);",
        postgres: "
            CREATE TABLE api_keys (
                id TEXT PRIMARY KEY,
                name TEXT NOT NULL,
                role TEXT NOT NULL,
                secret_sha256 BYTEA NOT NULL,
                created_at BIGINT NOT NULL,
                expires_at BIGINT,
                revoked_at BIGINT,
                last_used_at BIGINT
            );
            CREATE INDEX api_keys_name ON api_keys (name);",
    }],
};

/// The most keys that are listed; the newest come first.
const LIST_LIMIT: i64 = 1000;

pub(crate) async fn insert(conn: &mut Conn, key: &Key, secret_sha256: &[u8]) -> Result<(), Error> {
    query(
        "INSERT INTO api_keys (id, name, role, secret_sha256, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&key.id)
    .bind(&key.name)
    .bind(key.role.as_str())
    .bind(secret_sha256.to_vec())
    .bind(key.created_at)
    .bind(key.expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The key with this id, else the newest one with this name.
pub(crate) async fn find(conn: &mut Conn, id_or_name: &str) -> Result<Option<Key>, Error> {
    let row = query(
        "SELECT id, name, role, created_at, expires_at, revoked_at, last_used_at FROM api_keys
         WHERE id = $1 OR name = $1
         ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END, created_at DESC, id LIMIT 1",
    )
    .bind(id_or_name)
    .fetch_optional(conn)
    .await?;
    Ok(row.as_ref().map(key))
}

pub(crate) async fn find_with_hash(
    conn: &mut Conn,
    id: &str,
) -> Result<Option<(Key, Vec<u8>)>, Error> {
    let row = query(
        "SELECT id, name, role, created_at, expires_at, revoked_at, last_used_at, secret_sha256
         FROM api_keys WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (key(&row), row.get(7))))
}

pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<Key>, Error> {
    let rows = query(
        "SELECT id, name, role, created_at, expires_at, revoked_at, last_used_at FROM api_keys
         ORDER BY created_at DESC, id LIMIT $1",
    )
    .bind(LIST_LIMIT)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(key).collect())
}

/// Whether any key opens something at `now`, as [`Key::is_valid`] says of one.
pub(crate) async fn any_valid(conn: &mut Conn, now: i64) -> Result<bool, Error> {
    let row = query(
        "SELECT 1 FROM api_keys
         WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) LIMIT 1",
    )
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

pub(crate) async fn set_revoked(conn: &mut Conn, id: &str, now: i64) -> Result<(), Error> {
    query("UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(id)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn set_last_used(conn: &mut Conn, id: &str, now: i64) -> Result<(), Error> {
    query("UPDATE api_keys SET last_used_at = $2 WHERE id = $1")
        .bind(id)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

fn key(row: &Row) -> Key {
    let role: String = row.get(2);
    Key {
        id: row.get(0),
        name: row.get(1),
        // A role that this version does not know gives the least.
        role: Role::parse(&role).unwrap_or(Role::Viewer),
        created_at: row.get(3),
        expires_at: row.get(4),
        revoked_at: row.get(5),
        last_used_at: row.get(6),
    }
}
