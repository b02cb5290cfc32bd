//! The rows of aliases.

use db::{Conn, Error, query};

pub(crate) async fn set(
    conn: &mut Conn,
    name: &str,
    alias: &str,
    version: i64,
) -> Result<(), Error> {
    query(
        "INSERT INTO model_aliases (name, alias, version) VALUES ($1, $2, $3)
         ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version",
    )
    .bind(name)
    .bind(alias)
    .bind(version)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, name: &str, alias: &str) -> Result<u64, Error> {
    query("DELETE FROM model_aliases WHERE name = $1 AND alias = $2")
        .bind(name)
        .bind(alias)
        .execute(conn)
        .await
}
