//! The rows of webhooks.

use db::{Conn, Error, Row, query};

use crate::event::Event;
use crate::webhook::{Status, Webhook};

const COLUMNS: &str = "webhook_id, name, description, url, status, created_at, updated_at";

fn read(row: &Row) -> Webhook {
    Webhook {
        webhook_id: row.get(0),
        name: row.get(1),
        description: row.get(2),
        url: row.get(3),
        status: Status::parse(&row.get::<String, _>(4)).unwrap_or(Status::Disabled),
        created_at: row.get(5),
        updated_at: row.get(6),
        events: Vec::new(),
    }
}

pub(crate) async fn insert(
    conn: &mut Conn,
    webhook: &Webhook,
    sealed_secret: Option<&str>,
) -> Result<(), Error> {
    query(format!(
        "INSERT INTO webhooks ({COLUMNS}, sealed_secret) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    ))
    .bind(&webhook.webhook_id)
    .bind(&webhook.name)
    .bind(&webhook.description)
    .bind(&webhook.url)
    .bind(webhook.status.as_str())
    .bind(webhook.created_at)
    .bind(webhook.updated_at)
    .bind(sealed_secret)
    .execute(conn)
    .await?;
    set_events(conn, webhook).await
}

/// Writes a webhook anew; without a secret the one that it has stays.
pub(crate) async fn update(
    conn: &mut Conn,
    webhook: &Webhook,
    sealed_secret: Option<&str>,
) -> Result<(), Error> {
    query(
        "UPDATE webhooks SET name = $2, description = $3, url = $4, status = $5, updated_at = $6,
             sealed_secret = COALESCE($7, sealed_secret) WHERE webhook_id = $1",
    )
    .bind(&webhook.webhook_id)
    .bind(&webhook.name)
    .bind(&webhook.description)
    .bind(&webhook.url)
    .bind(webhook.status.as_str())
    .bind(webhook.updated_at)
    .bind(sealed_secret)
    .execute(conn)
    .await?;
    query("DELETE FROM webhook_events WHERE webhook_id = $1")
        .bind(&webhook.webhook_id)
        .execute(conn)
        .await?;
    set_events(conn, webhook).await
}

async fn set_events(conn: &mut Conn, webhook: &Webhook) -> Result<(), Error> {
    for event in &webhook.events {
        query("INSERT INTO webhook_events (entity, action, webhook_id) VALUES ($1, $2, $3)")
            .bind(event.entity)
            .bind(event.action)
            .bind(&webhook.webhook_id)
            .execute(conn)
            .await?;
    }
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, webhook_id: &str) -> Result<u64, Error> {
    query("DELETE FROM webhooks WHERE webhook_id = $1")
        .bind(webhook_id)
        .execute(conn)
        .await
}

pub(crate) async fn find(conn: &mut Conn, webhook_id: &str) -> Result<Option<Webhook>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE webhook_id = $1");
    let found = query(sql).bind(webhook_id).fetch_optional(conn).await?;
    let Some(row) = found else { return Ok(None) };
    let mut webhook = read(&row);
    add_events(conn, &mut webhook).await?;
    Ok(Some(webhook))
}

/// A page of webhooks, the oldest first.
pub(crate) async fn list(conn: &mut Conn, limit: i64, offset: i64) -> Result<Vec<Webhook>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhooks ORDER BY created_at, webhook_id LIMIT $1 OFFSET $2"
    );
    let rows = query(sql).bind(limit).bind(offset).fetch_all(conn).await?;
    let mut webhooks: Vec<Webhook> = rows.iter().map(read).collect();
    for webhook in &mut webhooks {
        add_events(conn, webhook).await?;
    }
    Ok(webhooks)
}

async fn add_events(conn: &mut Conn, webhook: &mut Webhook) -> Result<(), Error> {
    let sql =
        "SELECT entity, action FROM webhook_events WHERE webhook_id = $1 ORDER BY entity, action";
    let rows = query(sql).bind(&webhook.webhook_id).fetch_all(conn).await?;
    let event = |row: &Row| Event::find(&row.get::<String, _>(0), &row.get::<String, _>(1)).ok();
    webhook.events = rows.iter().filter_map(event).collect();
    Ok(())
}

pub(crate) async fn sealed_secret(
    conn: &mut Conn,
    webhook_id: &str,
) -> Result<Option<String>, Error> {
    let sql = "SELECT sealed_secret FROM webhooks WHERE webhook_id = $1";
    let row = query(sql).bind(webhook_id).fetch_optional(conn).await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// The secrets of an earlier version, which are not sealed, by webhook.
pub(crate) async fn plain_secrets(conn: &mut Conn) -> Result<Vec<(String, String)>, Error> {
    let sql =
        "SELECT webhook_id, secret FROM webhooks WHERE secret IS NOT NULL ORDER BY webhook_id";
    let rows = query(sql).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Puts a sealed secret in the place of one that was not.
pub(crate) async fn replace_plain_secret(
    conn: &mut Conn,
    webhook_id: &str,
    sealed_secret: &str,
) -> Result<(), Error> {
    query("UPDATE webhooks SET secret = NULL, sealed_secret = $2 WHERE webhook_id = $1 AND secret IS NOT NULL")
        .bind(webhook_id)
        .bind(sealed_secret)
        .execute(conn)
        .await
        .map(|_| ())
}

/// The active webhooks that are told of an event.
pub(crate) async fn listeners(conn: &mut Conn, event: &Event) -> Result<Vec<String>, Error> {
    let rows = query(
        "SELECT w.webhook_id FROM webhook_events e JOIN webhooks w ON w.webhook_id = e.webhook_id
         WHERE e.entity = $1 AND e.action = $2 AND w.status = 'ACTIVE'",
    )
    .bind(event.entity)
    .bind(event.action)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
