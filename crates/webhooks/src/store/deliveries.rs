//! The rows of deliveries.

use db::{Conn, Error, Row, query};

use crate::delivery::{Delivery, State};

const COLUMNS: &str = "delivery_id, webhook_id, event, body, state, attempts, created_at, next_attempt_at, ended_at, response_status, error";

/// A delivery that this server tries now, and what it needs for that.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) delivery_id: String,
    pub(crate) webhook_id: String,
    pub(crate) body: String,
    /// This one counted.
    pub(crate) attempts: i64,
    pub(crate) url: String,
    pub(crate) sealed_secret: Option<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) delivery_id: &'a str,
    pub(crate) state: State,
    pub(crate) next_attempt_at: i64,
    pub(crate) ended_at: Option<i64>,
    pub(crate) response_status: Option<i64>,
    pub(crate) error: Option<&'a str>,
}

pub(crate) async fn insert(conn: &mut Conn, delivery: &Delivery) -> Result<(), Error> {
    query(format!(
        "INSERT INTO webhook_deliveries ({COLUMNS})
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    ))
    .bind(&delivery.delivery_id)
    .bind(&delivery.webhook_id)
    .bind(&delivery.event)
    .bind(&delivery.body)
    .bind(delivery.state.as_str())
    .bind(delivery.attempts)
    .bind(delivery.created_at)
    .bind(delivery.next_attempt_at)
    .bind(delivery.ended_at)
    .bind(delivery.response_status)
    .bind(&delivery.error)
    .execute(conn)
    .await
    .map(|_| ())
}

/// The deliveries of a webhook, the newest first.
pub(crate) async fn list(
    conn: &mut Conn,
    webhook_id: &str,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook_deliveries WHERE webhook_id = $1
         ORDER BY created_at DESC, delivery_id LIMIT $2"
    );
    let rows = query(sql)
        .bind(webhook_id)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let read = |row: &Row| Delivery {
        delivery_id: row.get(0),
        webhook_id: row.get(1),
        event: row.get(2),
        body: row.get(3),
        state: State::read(&row.get::<String, _>(4)),
        attempts: row.get(5),
        created_at: row.get(6),
        next_attempt_at: row.get(7),
        ended_at: row.get(8),
        response_status: row.get(9),
        error: row.get(10),
    };
    Ok(rows.iter().map(read).collect())
}

pub(crate) async fn is_any_due(conn: &mut Conn, now: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM webhook_deliveries WHERE state = 'waiting' AND next_attempt_at <= $1 LIMIT 1";
    Ok(query(sql).bind(now).fetch_optional(conn).await?.is_some())
}

/// Takes the deliveries that are due, until a time after which others may take them.
pub(crate) async fn claim(
    conn: &mut Conn,
    now: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<Claimed>, Error> {
    // Of two servers that choose the same row, the second finds it no longer due.
    let rows = query(
        "UPDATE webhook_deliveries SET attempts = attempts + 1, next_attempt_at = $2
         WHERE state = 'waiting' AND next_attempt_at <= $1 AND delivery_id IN (
             SELECT delivery_id FROM webhook_deliveries
             WHERE state = 'waiting' AND next_attempt_at <= $1
             ORDER BY next_attempt_at LIMIT $3)
         RETURNING delivery_id, webhook_id, body, attempts,
             (SELECT w.url FROM webhooks w WHERE w.webhook_id = webhook_deliveries.webhook_id),
             (SELECT w.sealed_secret FROM webhooks w WHERE w.webhook_id = webhook_deliveries.webhook_id)",
    )
    .bind(now)
    .bind(until)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read = |row: &Row| Claimed {
        delivery_id: row.get(0),
        webhook_id: row.get(1),
        body: row.get(2),
        attempts: row.get(3),
        url: row.get(4),
        sealed_secret: row.get(5),
    };
    Ok(rows.iter().map(read).collect())
}

/// Notes how an attempt ended; a delivery whose webhook is gone is gone as well.
pub(crate) async fn end_attempt(conn: &mut Conn, attempt: &Attempt<'_>) -> Result<(), Error> {
    query(
        "UPDATE webhook_deliveries SET state = $2, next_attempt_at = $3, ended_at = $4,
             response_status = $5, error = $6 WHERE delivery_id = $1",
    )
    .bind(attempt.delivery_id)
    .bind(attempt.state.as_str())
    .bind(attempt.next_attempt_at)
    .bind(attempt.ended_at)
    .bind(attempt.response_status)
    .bind(attempt.error)
    .execute(conn)
    .await
    .map(|_| ())
}

pub(crate) async fn delete_ended_before(conn: &mut Conn, time: i64) -> Result<u64, Error> {
    query("DELETE FROM webhook_deliveries WHERE state <> 'waiting' AND ended_at < $1")
        .bind(time)
        .execute(conn)
        .await
}
