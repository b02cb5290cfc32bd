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
