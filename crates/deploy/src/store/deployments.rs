//! The table `deployments`: inserting, reading, listing.

use db::{Conn, Row, query};
use serde::de::DeserializeOwned;

use crate::deployment::{Deployment, Order, State};
use crate::error::Error;

/// The columns of a [`Deployment`], in the order that [`read`] takes them.
const COLUMNS: &str = "deployment_id, request, machine, created_by, status, attempt, \
     training_job_id, run_id, model_version, replicas, traffic, timings, failure, created_at, \
     completed_at, retired_at, image";

/// What makes a deployment one that should run.
pub(super) const LIVE: &str = "status = 'deployed' AND retired_at IS NULL AND removed_at IS NULL";

/// A row to be: a deployment that was just asked for.
pub(crate) struct NewRow<'r> {
    pub(crate) id: &'r str,
    pub(crate) order: &'r Order,
    pub(crate) machine: &'r str,
    /// The body of the upload that trains its script.
    pub(crate) training: Option<&'r str>,
    pub(crate) state: State,
    pub(crate) idempotency_key: Option<&'r str>,
    pub(crate) request_hash: &'r str,
    pub(crate) created_by: &'r str,
    pub(crate) now: i64,
}

/// Inserts a deployment; false when its idempotency key is taken.
pub(crate) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<bool, Error> {
    let inserted = query(
        "INSERT INTO deployments (deployment_id, namespace, model_name, machine, request, training,
            idempotency_key, request_hash, created_by, status, attempt, model_version, replicas,
            traffic, timings, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, 0, '[]', $13)
         ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(row.id)
    .bind(&row.order.namespace)
    .bind(&row.order.model_name)
    .bind(row.machine)
    .bind(json(row.order))
    .bind(row.training)
    .bind(row.idempotency_key)
    .bind(row.request_hash)
    .bind(row.created_by)
    .bind(row.state.as_str())
    .bind(row.order.model_version)
    .bind(i64::from(row.order.replicas))
    .bind(row.now)
    .execute(conn)
    .await?;
    Ok(inserted == 1)
}

/// The deployment that an idempotency key made, with the hash of its request.
pub(crate) async fn find_by_idempotency_key(
    conn: &mut Conn,
    key: &str,
) -> Result<Option<(String, Deployment)>, Error> {
    let row = query(format!(
        "SELECT {COLUMNS}, request_hash FROM deployments WHERE idempotency_key = $1"
    ))
    .bind(key)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.get("request_hash"), read(&row)?)))
        .transpose()
}

/// A deployment that was not removed.
pub(crate) async fn find(conn: &mut Conn, id: &str) -> Result<Option<Deployment>, Error> {
    let row = query(format!(
        "SELECT {COLUMNS} FROM deployments WHERE deployment_id = $1 AND removed_at IS NULL"
    ))
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// The body of the upload that trains a deployment's script.
pub(crate) async fn find_training(conn: &mut Conn, id: &str) -> Result<Option<String>, Error> {
    let row = query("SELECT training FROM deployments WHERE deployment_id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// The training job of a deployment, also of a removed one.
pub(crate) async fn find_training_job(conn: &mut Conn, id: &str) -> Result<Option<String>, Error> {
    let row = query("SELECT training_job_id FROM deployments WHERE deployment_id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Which deployments a list shows; empty: all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) namespace: Option<String>,
    pub(crate) model_name: Option<String>,
    pub(crate) state: Option<State>,
    /// Only those that should run.
    pub(crate) live: bool,
    /// The last deployment of the page before.
    pub(crate) before: Option<String>,
}

/// A page of deployments, newest first; one row more than asked for tells that there are more.
pub(crate) async fn list(
    conn: &mut Conn,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Deployment>, Error> {
    let which = if filter.live {
        LIVE
    } else {
        "removed_at IS NULL"
    };
    let rows = query(format!("SELECT {COLUMNS} FROM deployments WHERE {which}"))
        .and("namespace = ?", filter.namespace.as_ref())
        .and("model_name = ?", filter.model_name.as_ref())
        .and("status = ?", filter.state.map(State::as_str))
        .and("deployment_id < ?", filter.before.as_ref())
        .then(" ORDER BY deployment_id DESC LIMIT ?", limit + 1)
        .fetch_all(conn)
        .await?;
    rows.iter().map(read).collect()
}

/// The deployments of a machine that are on their way, oldest first.
pub(crate) async fn list_open(conn: &mut Conn, machine: &str) -> Result<Vec<Deployment>, Error> {
    of_machine(conn, machine, "completed_at IS NULL AND removed_at IS NULL").await
}

/// The deployments of a machine that should run, oldest first.
pub(crate) async fn list_live(conn: &mut Conn, machine: &str) -> Result<Vec<Deployment>, Error> {
    of_machine(conn, machine, LIVE).await
}

/// Deployments that may have objects in a cluster and should have none: failed, replaced or removed.
/// One that another server still leads is left to it.
pub(crate) async fn list_placed_in_vain(
    conn: &mut Conn,
    machine: &str,
    now: i64,
) -> Result<Vec<Deployment>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM deployments WHERE placed = 1
            AND (removed_at IS NOT NULL OR retired_at IS NOT NULL OR status = 'failed')
            AND (completed_at IS NOT NULL OR leader IS NULL OR leader = $1 OR leader_until < $2)
         ORDER BY deployment_id"
    ))
    .bind(machine)
    .bind(now)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// Whether another deployment of the same endpoint has objects in a cluster.
pub(crate) async fn has_placed_beside(
    conn: &mut Conn,
    deployment: &Deployment,
) -> Result<bool, Error> {
    let row = query(
        "SELECT 1 FROM deployments
         WHERE placed = 1 AND namespace = $1 AND model_name = $2 AND deployment_id <> $3 LIMIT 1",
    )
    .bind(&deployment.order.namespace)
    .bind(&deployment.order.model_name)
    .bind(&deployment.id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Whether another deployment of the same namespace has objects in a cluster.
pub(crate) async fn has_placed_in_namespace(
    conn: &mut Conn,
    deployment: &Deployment,
) -> Result<bool, Error> {
    let row = query(
        "SELECT 1 FROM deployments
         WHERE placed = 1 AND namespace = $1 AND deployment_id <> $2 LIMIT 1",
    )
    .bind(&deployment.order.namespace)
    .bind(&deployment.id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

async fn of_machine(
    conn: &mut Conn,
    machine: &str,
    condition: &str,
) -> Result<Vec<Deployment>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM deployments WHERE machine = $1 AND {condition} ORDER BY deployment_id"
    ))
    .bind(machine)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The deployments of an endpoint that should run, oldest first.
pub(crate) async fn list_live_of(
    conn: &mut Conn,
    namespace: &str,
    model_name: &str,
) -> Result<Vec<Deployment>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM deployments
         WHERE namespace = $1 AND model_name = $2 AND {LIVE} ORDER BY deployment_id"
    ))
    .bind(namespace)
    .bind(model_name)
    .fetch_all(conn)
    .await?;
    rows.iter().map(read).collect()
}

/// The newest deployment of the same endpoint that was deployed before another.
pub(crate) async fn find_before(
    conn: &mut Conn,
    deployment: &Deployment,
) -> Result<Option<Deployment>, Error> {
    let row = query(format!(
        "SELECT {COLUMNS} FROM deployments
         WHERE namespace = $1 AND model_name = $2 AND deployment_id < $3 AND status = 'deployed'
            AND removed_at IS NULL
         ORDER BY deployment_id DESC LIMIT 1"
    ))
    .bind(&deployment.order.namespace)
    .bind(&deployment.order.model_name)
    .bind(&deployment.id)
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Deletes what was removed before a time and has nothing in a cluster, with the logs.
pub(crate) async fn delete_removed(conn: &mut Conn, before: i64) -> Result<u64, Error> {
    let deleted = query("DELETE FROM deployments WHERE removed_at < $1 AND placed = 0")
        .bind(before)
        .execute(conn)
        .await?;
    Ok(deleted)
}

fn read(row: &Row) -> Result<Deployment, Error> {
    let id: String = row.get(0);
    let stored = |column| {
        let id = id.clone();
        move || Error::Stored { id, column }
    };
    let number = |index: usize| u32::try_from(row.get::<i64, _>(index)).ok();
    let failure: Option<String> = row.get(12);
    Ok(Deployment {
        order: parse(&row.get::<String, _>(1)).ok_or_else(stored("request"))?,
        machine: row.get(2),
        created_by: row.get(3),
        state: State::parse(&row.get::<String, _>(4)).ok_or_else(stored("status"))?,
        attempt: row.get(5),
        training_job_id: row.get(6),
        run_id: row.get(7),
        model_version: row.get(8),
        replicas: number(9).ok_or_else(stored("replicas"))?,
        traffic: number(10).ok_or_else(stored("traffic"))?,
        timings: parse(&row.get::<String, _>(11)).ok_or_else(stored("timings"))?,
        failure: failure
            .map(|text| parse(&text).ok_or_else(stored("failure")))
            .transpose()?,
        created_at: row.get(13),
        completed_at: row.get(14),
        retired_at: row.get(15),
        image: row.get(16),
        id,
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys and no failing parts")
}

#[cfg(test)]
impl<'r> NewRow<'r> {
    /// A row that waits to be built.
    pub(crate) fn example(id: &'r str, order: &'r Order) -> Self {
        Self {
            id,
            order,
            machine: "x",
            training: None,
            state: State::Building,
            idempotency_key: None,
            request_hash: "",
            created_by: "local",
            now: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::changes::{fail, remove, set_placed};
    use crate::store::logs;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_goes_when_its_deployment_has_ended() {
        for db in db::testing::both(&[crate::MIGRATIONS]).await {
            let order = Order::example();
            let mut tx = db.begin().await.unwrap();
            for id in ["a", "b"] {
                let mut row = NewRow::example(id, &order);
                row.training = Some("{\"environment_vars\": {\"PASSWORD\": \"x\"}}");
                assert!(insert(&mut tx, &row).await.unwrap());
            }
            let failure = crate::Failure::new(crate::Fault::Script, "c", "e", "m".to_owned(), None);
            assert!(fail(&mut tx, "a", &failure, &[], 1).await.unwrap());
            let kept = find_training(&mut tx, "b").await.unwrap();
            assert!(kept.is_some(), "{}", db.name);
            assert_eq!(
                find_training(&mut tx, "a").await.unwrap(),
                None,
                "{}",
                db.name
            );
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_removed_long_ago_is_forgotten_unless_the_cluster_has_it() {
        for db in db::testing::both(&[crate::MIGRATIONS]).await {
            let order = Order::example();
            let mut tx = db.begin().await.unwrap();
            for (id, removed_at) in [("long ago", 1), ("placed", 1), ("late", 9)] {
                let row = NewRow::example(id, &order);
                assert!(insert(&mut tx, &row).await.unwrap());
                let line = ["said".to_owned()];
                logs::append(&mut tx, id, "platform", &line, 0)
                    .await
                    .unwrap();
                set_placed(&mut tx, id, id == "placed").await.unwrap();
                assert!(remove(&mut tx, id, removed_at).await.unwrap());
            }
            assert!(
                insert(&mut tx, &NewRow::example("there", &order))
                    .await
                    .unwrap()
            );
            assert_eq!(delete_removed(&mut tx, 5).await.unwrap(), 1, "{}", db.name);
            let lines = logs::list_after(&mut tx, "long ago", 0, 10).await.unwrap();
            assert!(lines.is_empty(), "{}", db.name);
            let lines = logs::list_after(&mut tx, "late", 0, 10).await.unwrap();
            assert_eq!(lines.len(), 1, "{}", db.name);
            assert_eq!(delete_removed(&mut tx, 10).await.unwrap(), 1, "{}", db.name);
        }
    }
}
