//! Numbers that count up, for ids that clients expect to be small (experiments, versions).

use crate::conn::Conn;
use crate::error::Error;
use crate::query::query;

/// Takes the next number of the counter `name`: 1, 2, 3, … Numbers of operations that are rolled
/// back are used again.
pub async fn next_id(conn: &mut Conn, name: &str) -> Result<i64, Error> {
    let row = query(
        "INSERT INTO asgard_counters (name, value) VALUES ($1, 1)
         ON CONFLICT (name) DO UPDATE SET value = asgard_counters.value + 1 RETURNING value",
    )
    .bind(name)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

/// Makes the counter `name` go on above `value`, unless it is there already.
pub async fn raise_to(conn: &mut Conn, name: &str, value: i64) -> Result<(), Error> {
    query(
        "INSERT INTO asgard_counters (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value
         WHERE asgard_counters.value < excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(conn)
    .await
    .map(|_| ())
}
