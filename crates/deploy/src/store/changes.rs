//! The changes of rows of `deployments`. Each names the state that it changes, so that a
//! deployment has one end and a removed one none.

use db::{Conn, Error as DbError, query};

use super::deployments::{LIVE, json};
use crate::deployment::{Failure, State, Timing};

/// Counts that a server takes up a deployment that is on its way.
pub(crate) async fn begin_attempt(conn: &mut Conn, id: &str) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET attempt = attempt + 1
         WHERE deployment_id = $1 AND completed_at IS NULL AND removed_at IS NULL",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Takes back that a server took up a deployment, for one that stops by itself.
pub(crate) async fn undo_attempt(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    query(
        "UPDATE deployments SET attempt = attempt - 1, leader = NULL
         WHERE deployment_id = $1 AND completed_at IS NULL",
    )
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes or keeps `machine` the one that leads a deployment in a cluster; false while another does.
pub(crate) async fn lease(
    conn: &mut Conn,
    id: &str,
    machine: &str,
    now: i64,
    until: i64,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET leader = $1, leader_until = $2
         WHERE deployment_id = $3 AND completed_at IS NULL AND removed_at IS NULL
            AND (leader IS NULL OR leader = $1 OR leader_until < $4)",
    )
    .bind(machine)
    .bind(until)
    .bind(id)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Stores the image that a deployment runs.
pub(crate) async fn set_image(conn: &mut Conn, id: &str, image: &str) -> Result<(), DbError> {
    query("UPDATE deployments SET image = $1 WHERE deployment_id = $2")
        .bind(image)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Stores whether a deployment may have objects in a cluster; before the first is made, and after
/// the last is gone.
pub(crate) async fn set_placed(conn: &mut Conn, id: &str, placed: bool) -> Result<(), DbError> {
    query("UPDATE deployments SET placed = $1 WHERE deployment_id = $2")
        .bind(i64::from(placed))
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Moves a deployment that is on its way into a state; false when it has ended or is removed.
pub(crate) async fn enter(
    conn: &mut Conn,
    id: &str,
    state: State,
    timings: &[Timing],
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET status = $1, timings = $2
         WHERE deployment_id = $3 AND completed_at IS NULL AND removed_at IS NULL",
    )
    .bind(state.as_str())
    .bind(json(&timings))
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Stores the training job of a deployment.
pub(crate) async fn set_training_job(
    conn: &mut Conn,
    id: &str,
    job_id: &str,
) -> Result<(), DbError> {
    query("UPDATE deployments SET training_job_id = $1 WHERE deployment_id = $2")
        .bind(job_id)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Stores which version is deployed, and the run that it came from.
pub(crate) async fn set_version(
    conn: &mut Conn,
    id: &str,
    version: i64,
    run_id: Option<&str>,
) -> Result<(), DbError> {
    query("UPDATE deployments SET model_version = $1, run_id = $2 WHERE deployment_id = $3")
        .bind(version)
        .bind(run_id)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a deployment as failed, once.
pub(crate) async fn fail(
    conn: &mut Conn,
    id: &str,
    failure: &Failure,
    timings: &[Timing],
    now: i64,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET status = 'failed', failure = $1, timings = $2, completed_at = $3,
            training = NULL
         WHERE deployment_id = $4 AND completed_at IS NULL AND removed_at IS NULL",
    )
    .bind(json(failure))
    .bind(json(&timings))
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Ends a deployment as deployed, once.
pub(crate) async fn succeed(
    conn: &mut Conn,
    id: &str,
    traffic: u32,
    timings: &[Timing],
    now: i64,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET status = 'deployed', traffic = $1, timings = $2, completed_at = $3,
            training = NULL
         WHERE deployment_id = $4 AND completed_at IS NULL AND removed_at IS NULL",
    )
    .bind(i64::from(traffic))
    .bind(json(&timings))
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Changes the share of a live deployment.
pub(crate) async fn set_traffic(conn: &mut Conn, id: &str, traffic: u32) -> Result<bool, DbError> {
    set_live(conn, id, "traffic", traffic).await
}

/// Changes the number of replicas of a live deployment.
pub(crate) async fn set_replicas(
    conn: &mut Conn,
    id: &str,
    replicas: u32,
) -> Result<bool, DbError> {
    set_live(conn, id, "replicas", replicas).await
}

/// Changes a number of a live deployment; false when there is none such.
async fn set_live(
    conn: &mut Conn,
    id: &str,
    column: &'static str,
    number: u32,
) -> Result<bool, DbError> {
    let n = query(format!(
        "UPDATE deployments SET {column} = $1 WHERE deployment_id = $2 AND {LIVE}"
    ))
    .bind(number)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Takes a live deployment out of service; what it was stays known.
pub(crate) async fn retire(conn: &mut Conn, id: &str, now: i64) -> Result<bool, DbError> {
    let n = query(format!(
        "UPDATE deployments SET retired_at = $1, traffic = 0 WHERE deployment_id = $2 AND {LIVE}"
    ))
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Removes a deployment in whatever state it is; false when it is gone already.
pub(crate) async fn remove(conn: &mut Conn, id: &str, now: i64) -> Result<bool, DbError> {
    let n = query(
        "UPDATE deployments SET removed_at = $1, traffic = 0, training = NULL
         WHERE deployment_id = $2 AND removed_at IS NULL",
    )
    .bind(now)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}
