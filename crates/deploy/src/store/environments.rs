//! Rows of `deployments` whose variables an earlier version left as they were.

use db::{Conn, Error as DbError, query};

use super::deployments::json;
use crate::deployment::Order;

/// A row that is to be sealed.
pub(crate) struct PlainRow {
    pub(crate) id: String,
    /// Absent when it is of another version.
    pub(crate) order: Option<Order>,
}

/// The next rows, also of removed deployments, whose variables are not sealed.
pub(crate) async fn list_plain(
    conn: &mut Conn,
    after: &str,
    limit: i64,
) -> Result<Vec<PlainRow>, DbError> {
    // An order is stored without spaces; none of its texts has a quote that is not escaped.
    let rows = query(
        "SELECT deployment_id, request FROM deployments
         WHERE deployment_id > $1 AND request LIKE '%\"environment\":{\"%'
         ORDER BY deployment_id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read = rows.iter().map(|row| PlainRow {
        id: row.get(0),
        order: serde_json::from_str(&row.get::<String, _>(1)).ok(),
    });
    Ok(read.collect())
}

/// Puts an order in the place of the same one with other variables.
pub(crate) async fn set_order(conn: &mut Conn, id: &str, order: &Order) -> Result<(), DbError> {
    query("UPDATE deployments SET request = $2 WHERE deployment_id = $1")
        .bind(id)
        .bind(json(order))
        .execute(conn)
        .await
        .map(|_| ())
}
