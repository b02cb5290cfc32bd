//! The queue in `training_jobs`: claiming, leases, final states.
//!
//! A job waits while nobody holds its lease and it has no end. Every change by a runner names the
//! lease's owner, so a server that lost a job can change nothing of it.

use db::{Backend, Conn, Error as DbError, query};

use super::jobs::{COLUMNS, json, read};
use crate::failure::Failure;
use crate::job::{Facts, Job, Phase, Problem, Reason, Status};

/// Takes the oldest waiting job for `owner`, with its script.
pub(crate) async fn claim(
    conn: &mut Conn,
    owner: &str,
    now: i64,
    lease_until: i64,
) -> Result<Option<(Job, String)>, DbError> {
    let locking = match conn.backend() {
        Backend::Sqlite => "",
        Backend::Postgres => "FOR UPDATE SKIP LOCKED",
    };
    let row = query(format!(
        "UPDATE training_jobs SET status = 'running', attempt = attempt + 1, lease_owner = $1,
            lease_until = $2, started_at = COALESCE(started_at, $3), progress = NULL,
            phase = CASE WHEN phase = 'registering' THEN phase ELSE 'preparing' END
         WHERE job_id = (SELECT job_id FROM training_jobs
            WHERE lease_owner IS NULL AND completed_at IS NULL
            ORDER BY job_id LIMIT 1 {locking})
         RETURNING {COLUMNS}, script"
    ))
    .bind(owner)
    .bind(lease_until)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (read(&row), row.get("script"))))
}

/// Renews a lease. `None` when the job belongs to another owner now; else whether somebody asked
/// to cancel it.
pub(crate) async fn renew(
    conn: &mut Conn,
    job_id: &str,
    owner: &str,
    lease_until: i64,
) -> Result<Option<bool>, DbError> {
    let row = query(
        "UPDATE training_jobs SET lease_until = $1
         WHERE job_id = $2 AND lease_owner = $3 AND completed_at IS NULL RETURNING cancel_requested",
    )
    .bind(lease_until)
    .bind(job_id)
    .bind(owner)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Gives a job back to the queue as if this attempt had not been, for a server that stops.
pub(crate) async fn release(conn: &mut Conn, job_id: &str, owner: &str) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET status = 'queued', lease_owner = NULL, lease_until = NULL, token_hash = NULL,
            attempt = attempt - 1
         WHERE job_id = $1 AND lease_owner = $2 AND completed_at IS NULL",
    )
    .bind(job_id)
    .bind(owner)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Jobs whose server gives no sign of life: all leased ones with `expired_by` absent, else those
/// whose lease ended before it.
pub(crate) async fn list_lost(
    conn: &mut Conn,
    expired_by: Option<i64>,
) -> Result<Vec<Job>, DbError> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM training_jobs
         WHERE lease_owner IS NOT NULL AND completed_at IS NULL AND lease_until < $1
         ORDER BY job_id LIMIT 1000"
    ))
    .bind(expired_by.unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(read).collect())
}

/// Puts a lost job back into the queue; false when it ended or was taken meanwhile.
pub(crate) async fn requeue_lost(
    conn: &mut Conn,
    job_id: &str,
    attempt: i64,
    expired_by: Option<i64>,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET status = 'queued', lease_owner = NULL, lease_until = NULL, token_hash = NULL
         WHERE job_id = $1 AND attempt = $2 AND lease_owner IS NOT NULL AND completed_at IS NULL AND lease_until < $3",
    )
    .bind(job_id)
    .bind(attempt)
    .bind(expired_by.unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// The final state of a job.
pub(crate) struct End<'e> {
    pub(crate) status: Status,
    pub(crate) reason: Option<Reason>,
    pub(crate) error: Option<&'e Problem>,
    pub(crate) now: i64,
}

impl<'e> End<'e> {
    /// The end of a job that fails now.
    pub(crate) fn failed(failure: &'e Failure, now: i64) -> Self {
        Self {
            status: Status::Failed,
            reason: Some(failure.reason),
            error: Some(&failure.problem),
            now,
        }
    }
}

/// Who may end a job.
pub(crate) enum Holder<'h> {
    /// The server that runs it.
    Owner(&'h str),
    /// Nobody holds it: it waits.
    Nobody,
    /// Whoever finds it lost, at this attempt.
    Finder {
        attempt: i64,
        expired_by: Option<i64>,
    },
}

/// Ends a job, once: false when it has ended or is held by another.
pub(crate) async fn finish(
    conn: &mut Conn,
    job_id: &str,
    holder: &Holder<'_>,
    end: &End<'_>,
) -> Result<bool, DbError> {
    let guard = match holder {
        Holder::Owner(_) => "lease_owner = $6",
        Holder::Nobody => "lease_owner IS NULL",
        Holder::Finder { .. } => "lease_owner IS NOT NULL AND attempt = $6 AND lease_until < $7",
    };
    let statement = query(format!(
        "UPDATE training_jobs SET status = $1, reason = $2, error = $3, completed_at = $4, phase = NULL,
            lease_owner = NULL, lease_until = NULL, token_hash = NULL
         WHERE job_id = $5 AND completed_at IS NULL AND {guard}"
    ))
    .bind(end.status.as_str())
    .bind(end.reason.map(Reason::as_str))
    .bind(end.error.map(json))
    .bind(end.now)
    .bind(job_id);
    let statement = match holder {
        Holder::Owner(owner) => statement.bind(*owner),
        Holder::Nobody => statement,
        Holder::Finder {
            attempt,
            expired_by,
        } => statement
            .bind(*attempt)
            .bind(expired_by.unwrap_or(i64::MAX)),
    };
    Ok(statement.execute(conn).await? == 1)
}

/// Asks the runner of a job to stop it; false when nobody runs it.
pub(crate) async fn request_cancel(conn: &mut Conn, job_id: &str) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET cancel_requested = $1
         WHERE job_id = $2 AND lease_owner IS NOT NULL AND completed_at IS NULL",
    )
    .bind(true)
    .bind(job_id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// What a runner found out so far.
pub(crate) struct Progress<'p> {
    pub(crate) phase: Phase,
    pub(crate) script_started_at: Option<i64>,
    pub(crate) run_id: Option<&'p str>,
    pub(crate) model_version: Option<&'p str>,
    pub(crate) warnings: &'p [Problem],
    pub(crate) facts: &'p Facts,
}

/// Stores what the owner found out; false when the job is not the owner's any more.
pub(crate) async fn update(
    conn: &mut Conn,
    job_id: &str,
    owner: &str,
    progress: &Progress<'_>,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET phase = $1, script_started_at = $2, run_id = $3, model_version = $4,
            warnings = $5, facts = $6
         WHERE job_id = $7 AND lease_owner = $8 AND completed_at IS NULL",
    )
    .bind(progress.phase.as_str())
    .bind(progress.script_started_at)
    .bind(progress.run_id)
    .bind(progress.model_version)
    .bind(json(&progress.warnings))
    .bind(json(progress.facts))
    .bind(job_id)
    .bind(owner)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// Stores the hash of the token that the job's script gets.
pub(crate) async fn set_token(
    conn: &mut Conn,
    job_id: &str,
    owner: &str,
    token_hash: &str,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET token_hash = $1 WHERE job_id = $2 AND lease_owner = $3 AND completed_at IS NULL",
    )
    .bind(token_hash)
    .bind(job_id)
    .bind(owner)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// How many jobs wait.
pub(crate) async fn count_waiting(conn: &mut Conn) -> Result<i64, DbError> {
    let row = query(
        "SELECT COUNT(*) FROM training_jobs WHERE lease_owner IS NULL AND completed_at IS NULL",
    )
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}
