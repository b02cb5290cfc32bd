//! The tables of runs and their tags.

use db::{Backend, Conn, Error, Row, query};

use crate::run::{LifecycleStage, Run, RunStatus};
use crate::store::Texts;

/// The columns of a run, in the order that [`read`] takes them.
pub(crate) const COLUMNS: &str = "r.run, r.run_id, r.experiment_id, r.name, r.status, r.lifecycle_stage, r.user_id, r.start_time, r.end_time, r.artifact_uri, r.job_id";

/// How many [`COLUMNS`] there are.
pub(crate) const COLUMN_COUNT: usize = 11;

pub(crate) fn read(row: &Row) -> Run {
    Run {
        row: row.get(0),
        run_id: row.get(1),
        experiment_id: row.get::<i64, _>(2).to_string(),
        name: row.get(3),
        status: RunStatus::parse(&row.get::<String, _>(4)).unwrap_or(RunStatus::Running),
        lifecycle_stage: LifecycleStage::read(&row.get::<String, _>(5)),
        user_id: row.get(6),
        start_time: row.get(7),
        end_time: row.get(8),
        artifact_uri: row.get(9),
        job_id: row.get(10),
    }
}

/// Adds a run and gives its number.
pub(crate) async fn insert(conn: &mut Conn, run: &Run) -> Result<i64, Error> {
    let experiment_id: i64 = run
        .experiment_id
        .parse()
        .expect("an experiment's id is made from a number");
    let row = query(
        "INSERT INTO runs (run_id, experiment_id, name, status, lifecycle_stage, user_id, start_time, end_time, artifact_uri, job_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING run",
    )
    .bind(&run.run_id)
    .bind(experiment_id)
    .bind(&run.name)
    .bind(run.status.as_str())
    .bind(run.lifecycle_stage.as_str())
    .bind(&run.user_id)
    .bind(run.start_time)
    .bind(run.end_time)
    .bind(&run.artifact_uri)
    .bind(&run.job_id)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

pub(crate) async fn find(conn: &mut Conn, run_id: &str) -> Result<Option<Run>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.run_id = $1");
    let row = query(sql).bind(run_id).fetch_optional(conn).await?;
    Ok(row.as_ref().map(read))
}

/// The runs with these ids, in no order; ids that no run has are passed over.
pub(crate) async fn list(conn: &mut Conn, run_ids: &[String]) -> Result<Vec<Run>, Error> {
    let ids = Texts::of(run_ids.iter().map(String::as_str));
    let among = ids.select(conn.backend(), 1);
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.run_id IN ({among})");
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(read).collect())
}

/// The runs of a job, oldest first.
pub(crate) async fn list_of_job(conn: &mut Conn, job_id: &str) -> Result<Vec<Run>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM runs r WHERE r.job_id = $1 ORDER BY r.run");
    let rows = query(sql).bind(job_id).fetch_all(conn).await?;
    Ok(rows.iter().map(read).collect())
}

/// Ends the running runs of a job.
pub(crate) async fn end_running_of_job(
    conn: &mut Conn,
    job_id: &str,
    status: RunStatus,
    now: i64,
) -> Result<u64, Error> {
    query("UPDATE runs SET status = $1, end_time = $2 WHERE job_id = $3 AND status = 'RUNNING'")
        .bind(status.as_str())
        .bind(now)
        .bind(job_id)
        .execute(conn)
        .await
}

/// Puts the latest metrics of a run that ended into the index of values, and takes them out when
/// it goes on. Searches find them either way: this only makes them quick.
pub(crate) async fn settle_metrics(conn: &mut Conn, run: i64, settled: bool) -> Result<(), Error> {
    let sql = if settled {
        "UPDATE latest_metrics SET settled_value = value WHERE run = $1 AND settled_value IS NULL"
    } else {
        "UPDATE latest_metrics SET settled_value = NULL WHERE run = $1 AND settled_value IS NOT NULL"
    };
    query(sql).bind(run).execute(conn).await.map(|_| ())
}

/// The same for the runs of a job, all of which ended.
pub(crate) async fn settle_metrics_of_job(conn: &mut Conn, job_id: &str) -> Result<(), Error> {
    if conn.backend() == Backend::Postgres {
        // In the order in which points of many runs are written (run_points.rs): neither waits for
        // the other while the other waits for it.
        query(
            "SELECT 1 FROM latest_metrics
             WHERE run IN (SELECT run FROM runs WHERE job_id = $1) AND settled_value IS NULL
             ORDER BY run, key COLLATE \"C\" FOR UPDATE",
        )
        .bind(job_id)
        .execute(&mut *conn)
        .await?;
    }
    query(
        "UPDATE latest_metrics SET settled_value = value
         WHERE run IN (SELECT run FROM runs WHERE job_id = $1) AND settled_value IS NULL",
    )
    .bind(job_id)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Writes a run's status, end and name.
pub(crate) async fn update(conn: &mut Conn, run: &Run) -> Result<(), Error> {
    query("UPDATE runs SET status = $2, end_time = $3, name = $4 WHERE run = $1")
        .bind(run.row)
        .bind(run.status.as_str())
        .bind(run.end_time)
        .bind(&run.name)
        .execute(conn)
        .await
        .map(|_| ())
}

pub(crate) async fn rename(conn: &mut Conn, run: i64, name: &str) -> Result<(), Error> {
    query("UPDATE runs SET name = $2 WHERE run = $1")
        .bind(run)
        .bind(name)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Moves a run to a stage; false when it has been removed meanwhile.
pub(crate) async fn set_stage(
    conn: &mut Conn,
    run: i64,
    stage: LifecycleStage,
    now: i64,
) -> Result<bool, Error> {
    query("UPDATE runs SET lifecycle_stage = $2, deleted_time = $3 WHERE run = $1")
        .bind(run)
        .bind(stage.as_str())
        .bind((stage == LifecycleStage::Deleted).then_some(now))
        .execute(conn)
        .await
        .map(|changed| changed > 0)
}

/// Moves all runs of an experiment to a stage.
pub(crate) async fn set_stage_in_experiment(
    conn: &mut Conn,
    experiment_id: i64,
    stage: LifecycleStage,
    now: i64,
) -> Result<(), Error> {
    query(
        "UPDATE runs SET lifecycle_stage = $2, deleted_time = $3
         WHERE experiment_id = $1 AND lifecycle_stage <> $2",
    )
    .bind(experiment_id)
    .bind(stage.as_str())
    .bind((stage == LifecycleStage::Deleted).then_some(now))
    .execute(conn)
    .await
    .map(|_| ())
}

pub(crate) async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(query("SELECT COUNT(*) FROM runs")
        .fetch_one(conn)
        .await?
        .get(0))
}
