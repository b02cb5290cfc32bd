//! The table `deployment_logs`: numbered lines, of which the last are kept.

use db::{Conn, Error as DbError, query};

use crate::log::Line;

/// Lines that are kept of one deployment.
const KEPT: i64 = 5_000;

/// Adds lines to the log of a deployment, unless there is none such. Those who write at once follow
/// one another: the deployment's row gives them their numbers.
pub(crate) async fn append(
    conn: &mut Conn,
    id: &str,
    source: &str,
    lines: &[String],
    now: i64,
) -> Result<(), DbError> {
    let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    let row = query(
        "UPDATE deployments SET log_lines = log_lines + $1 WHERE deployment_id = $2
         RETURNING log_lines",
    )
    .bind(count)
    .bind(id)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let last: i64 = row.get(0);
    for (text, number) in lines.iter().zip(last - count + 1..) {
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
        .bind(last - KEPT)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Order;
    use crate::store::deployments::{NewRow, insert};

    async fn write(db: &db::Db, source: &str, lines: usize) {
        for number in 0..lines {
            let mut tx = db.begin().await.unwrap();
            let two = [format!("{number}"), "and more".to_owned()];
            append(&mut tx, "d", source, &two, 0).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_who_write_at_once_lose_nothing() {
        for db in db::testing::both(&[crate::MIGRATIONS]).await {
            let mut tx = db.begin().await.unwrap();
            let order = Order::example();
            let row = NewRow::example("d", &order);
            assert!(insert(&mut tx, &row).await.unwrap());
            tx.commit().await.unwrap();
            tokio::join!(write(&db, "replica 0", 50), write(&db, "replica 1", 50));
            let mut conn = db.acquire().await.unwrap();
            let found = list_after(&mut conn, "d", 0, 1_000).await.unwrap();
            let numbers: Vec<i64> = found.iter().map(|line| line.number).collect();
            assert_eq!(numbers, (1..=200).collect::<Vec<_>>(), "{}", db.name);
        }
    }
}
