//! The table `deployment_logs`: numbered lines, of which the last are kept.

use db::{Conn, Error as DbError, query};

use crate::log::Line;

/// Lines that are kept of one deployment.
const KEPT: i64 = 5_000;

/// Adds lines to the log of a deployment.
pub(crate) async fn append(
    conn: &mut Conn,
    id: &str,
    source: &str,
    lines: &[String],
    now: i64,
) -> Result<(), DbError> {
    let row = query("SELECT COALESCE(MAX(line), 0) FROM deployment_logs WHERE deployment_id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    let mut number: i64 = row.map_or(0, |row| row.get(0));
    for text in lines {
        number += 1;
        query(
            "INSERT INTO deployment_logs (deployment_id, line, source, at, text)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(number)
        .bind(source)
        .bind(now)
        .bind(text)
        .execute(conn)
        .await?;
    }
    query("DELETE FROM deployment_logs WHERE deployment_id = $1 AND line <= $2")
        .bind(id)
        .bind(number - KEPT)
        .execute(conn)
        .await?;
    Ok(())
}

/// The lines after a number.
pub(crate) async fn list_after(
    conn: &mut Conn,
    id: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Line>, DbError> {
    let rows = query(
        "SELECT line, source, at, text FROM deployment_logs
         WHERE deployment_id = $1 AND line > $2 ORDER BY line LIMIT $3",
    )
    .bind(id)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows
        .iter()
        .map(|row| Line {
            number: row.get(0),
            source: row.get(1),
            at: row.get(2),
            text: row.get(3),
        })
        .collect())
}
