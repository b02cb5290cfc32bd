//! The table `deployment_endpoints`: on which machine and port the deployments of a model are
//! reached.

use std::collections::{HashMap, HashSet};

use db::{Conn, Error as DbError, query};

/// The machine of an endpoint, which becomes `machine` when there is none yet.
pub(crate) async fn machine_of(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
    machine: &str,
) -> Result<String, DbError> {
    query(
        "INSERT INTO deployment_endpoints (namespace, model_name, machine) VALUES ($1, $2, $3)
         ON CONFLICT (namespace, model_name) DO NOTHING",
    )
    .bind(namespace)
    .bind(model_name)
    .bind(machine)
    .execute(conn)
    .await?;
    let row =
        query("SELECT machine FROM deployment_endpoints WHERE namespace = $1 AND model_name = $2")
            .bind(namespace)
            .bind(model_name)
            .fetch_optional(conn)
            .await?;
    Ok(row.map_or_else(|| machine.to_owned(), |row| row.get(0)))
}

/// The port of an endpoint, once it has one.
pub(crate) async fn find_port(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
) -> Result<Option<u16>, DbError> {
    let row =
        query("SELECT port FROM deployment_endpoints WHERE namespace = $1 AND model_name = $2")
            .bind(namespace)
            .bind(model_name)
            .fetch_optional(conn)
            .await?;
    let port = row.and_then(|row| row.get::<Option<i64>, _>(0));
    Ok(port.and_then(|port| u16::try_from(port).ok()))
}

/// Where an endpoint is reached, once it is: by a port of its machine, or elsewhere.
pub(crate) struct Address {
    pub(crate) port: Option<u16>,
    pub(crate) url: Option<String>,
}

/// The addresses of some endpoints.
pub(crate) async fn list_addresses(
    conn: &mut Conn,
    endpoints: &HashSet<(String, String)>,
) -> Result<HashMap<(String, String), Address>, DbError> {
    if endpoints.is_empty() {
        return Ok(HashMap::new());
    }
    let places = (0..endpoints.len())
        .map(|n| format!("(${}, ${})", 2 * n + 1, 2 * n + 2))
        .collect::<Vec<_>>()
        .join(", ");
    let names = endpoints.iter().flat_map(|(space, name)| [space, name]);
    let rows = query(format!(
        "SELECT namespace, model_name, port, url FROM deployment_endpoints
         WHERE (namespace, model_name) IN (VALUES {places})"
    ))
    .bind_all(names)
    .fetch_all(conn)
    .await?;
    let addresses = rows.iter().map(|row| {
        let port = row.get::<Option<i64>, _>(2);
        let address = Address {
            port: port.and_then(|port| u16::try_from(port).ok()),
            url: row.get(3),
        };
        ((row.get(0), row.get(1)), address)
    });
    Ok(addresses.collect())
}

/// Stores the URL of an endpoint.
pub(crate) async fn set_url(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
    url: &str,
) -> Result<(), DbError> {
    query("UPDATE deployment_endpoints SET url = $1 WHERE namespace = $2 AND model_name = $3")
        .bind(url)
        .bind(namespace)
        .bind(model_name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Namespaces and model names, and the ports of their endpoints.
pub(crate) type Ports = HashMap<(String, String), u16>;

/// The endpoints of a machine that have a port: no more than it has ports for deployments.
pub(crate) async fn list_ports(conn: &mut Conn, machine: &str) -> Result<Ports, DbError> {
    let rows = query(
        "SELECT namespace, model_name, port FROM deployment_endpoints
         WHERE machine = $1 AND port IS NOT NULL",
    )
    .bind(machine)
    .fetch_all(conn)
    .await?;
    let ports = rows.iter().filter_map(|row| {
        let port = u16::try_from(row.get::<i64, _>(2)).ok()?;
        Some(((row.get(0), row.get(1)), port))
    });
    Ok(ports.collect())
}

/// Gives an endpoint a port.
pub(crate) async fn set_port(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
    port: u16,
) -> Result<(), DbError> {
    query("UPDATE deployment_endpoints SET port = $1 WHERE namespace = $2 AND model_name = $3")
        .bind(i64::from(port))
        .bind(namespace)
        .bind(model_name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes an endpoint that no deployment needs any more.
pub(crate) async fn delete_unused(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
) -> Result<bool, DbError> {
    let n = query(
        "DELETE FROM deployment_endpoints WHERE namespace = $1 AND model_name = $2
            AND NOT EXISTS (SELECT 1 FROM deployments
                WHERE namespace = $1 AND model_name = $2 AND removed_at IS NULL
                    AND retired_at IS NULL AND status <> 'failed')",
    )
    .bind(namespace)
    .bind(model_name)
    .execute(conn)
    .await?;
    Ok(n == 1)
}
