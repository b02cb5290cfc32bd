//! The table `training_jobs`: inserting, reading, listing, and the changes of a running job.

use db::{Conn, Error as DbError, Row, query};
use registry::JobUpload;
use serde::de::DeserializeOwned;

use crate::job::{Facts, Job, JobRequest, Phase, Problem, Reason, Status};
use crate::listing::{Filter, Page};

/// The columns of a [`Job`], in the order that [`read`] takes them.
pub(super) const COLUMNS: &str = "job_id, request, created_by, status, phase, reason, attempt, \
     cancel_requested, progress, run_id, model_version, error, warnings, facts, created_at, \
     started_at, script_started_at, completed_at, script_name, experiment_name, model_name, \
     sealed_variables";

/// A row to be: a job that was just accepted.
pub(crate) struct NewRow<'r> {
    pub(crate) job_id: &'r str,
    pub(crate) request: &'r JobRequest,
    /// Absent when it has no variables, or they are stored as they are.
    pub(crate) sealed_variables: Option<&'r str>,
    pub(crate) script: &'r str,
    pub(crate) warnings: &'r [Problem],
    pub(crate) idempotency_key: Option<&'r str>,
    pub(crate) request_hash: &'r str,
    pub(crate) created_by: &'r str,
    pub(crate) may_promote: bool,
    pub(crate) now: i64,
}

/// Inserts an accepted job; false when its idempotency key is taken.
pub(crate) async fn insert(conn: &mut Conn, row: &NewRow<'_>) -> Result<bool, DbError> {
    let inserted = query(
        "INSERT INTO training_jobs (job_id, script_name, experiment_name, model_name, request,
            script, idempotency_key, request_hash, created_by, status, attempt, cancel_requested,
            warnings, facts, created_at, may_promote, sealed_variables)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'queued', 0, $10, $11, '{}', $12, $13, $14)
         ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(row.job_id)
    .bind(&row.request.script_name)
    .bind(&row.request.experiment_name)
    .bind(&row.request.model_name)
    .bind(stored_request(row.request, row.sealed_variables))
    .bind(row.script)
    .bind(row.idempotency_key)
    .bind(row.request_hash)
    .bind(row.created_by)
    .bind(false)
    .bind(json(&row.warnings))
    .bind(row.now)
    .bind(row.may_promote)
    .bind(stored_variables(row.request, row.sealed_variables))
    .execute(conn)
    .await?;
    Ok(inserted == 1)
}

/// A request as its row holds it: of variables whose values are sealed beside it, the names.
/// An earlier version cannot read these, and so does not run the script without the values.
fn stored_request(request: &JobRequest, sealed_variables: Option<&str>) -> String {
    let mut stored =
        serde_json::to_value(request).expect("these types have string keys and no failing parts");
    if sealed_variables.is_some() {
        stored["environment_vars"] = request.environment_vars.keys().cloned().collect();
    }
    stored.to_string()
}

/// A row of an earlier version, whose variables are not sealed.
pub(crate) struct PlainRow {
    pub(crate) job_id: String,
    pub(crate) request: String,
    pub(crate) request_hash: String,
}

/// Rows of earlier versions after the job `after`, by their ids.
pub(crate) async fn list_plain(
    conn: &mut Conn,
    after: &str,
    limit: i64,
) -> Result<Vec<PlainRow>, DbError> {
    let rows = query(
        "SELECT job_id, request, request_hash FROM training_jobs
         WHERE sealed_variables IS NULL AND job_id > $1 ORDER BY job_id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let read = |row: &Row| PlainRow {
        job_id: row.get(0),
        request: row.get(1),
        request_hash: row.get(2),
    };
    Ok(rows.iter().map(read).collect())
}

/// Puts sealed variables in the place of those that were not.
pub(crate) async fn seal(
    conn: &mut Conn,
    job_id: &str,
    request: &JobRequest,
    sealed_variables: Option<&str>,
    request_hash: &str,
) -> Result<(), DbError> {
    query(
        "UPDATE training_jobs SET request = $2, sealed_variables = $3, request_hash = $4
         WHERE job_id = $1 AND sealed_variables IS NULL",
    )
    .bind(job_id)
    .bind(stored_request(request, sealed_variables))
    .bind(stored_variables(request, sealed_variables))
    .bind(request_hash)
    .execute(conn)
    .await
    .map(|_| ())
}

/// What stands beside a request: nothing where there is nothing to seal, NULL where it is yet to be
/// sealed.
fn stored_variables<'s>(request: &JobRequest, sealed: Option<&'s str>) -> Option<&'s str> {
    sealed.or(request.environment_vars.is_empty().then_some(""))
}

/// The job that an idempotency key made, with the hash of its request.
pub(crate) async fn find_by_idempotency_key(
    conn: &mut Conn,
    key: &str,
) -> Result<Option<(String, Job)>, DbError> {
    let row = query(format!(
        "SELECT {COLUMNS}, request_hash FROM training_jobs WHERE idempotency_key = $1"
    ))
    .bind(key)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.get("request_hash"), read(&row))))
}

/// A job by its id.
pub(crate) async fn find(conn: &mut Conn, job_id: &str) -> Result<Option<Job>, DbError> {
    let row = query(format!(
        "SELECT {COLUMNS} FROM training_jobs WHERE job_id = $1"
    ))
    .bind(job_id)
    .fetch_optional(conn)
    .await?;
    Ok(row.as_ref().map(read))
}

/// What the registry must know of the upload of a job.
pub(crate) async fn find_upload(
    conn: &mut Conn,
    job_id: &str,
) -> Result<Option<JobUpload>, DbError> {
    let row = query("SELECT model_name, may_promote FROM training_jobs WHERE job_id = $1")
        .bind(job_id)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| JobUpload {
        model_name: row.get(0),
        may_promote: row.get(1),
    }))
}

/// The experiment that the upload of a job named.
pub(crate) async fn find_experiment_name(
    conn: &mut Conn,
    job_id: &str,
) -> Result<Option<String>, DbError> {
    let row = query("SELECT experiment_name FROM training_jobs WHERE job_id = $1")
        .bind(job_id)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// The script of a job.
pub(crate) async fn find_script(conn: &mut Conn, job_id: &str) -> Result<Option<String>, DbError> {
    let row = query("SELECT script FROM training_jobs WHERE job_id = $1")
        .bind(job_id)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// A page of jobs, newest first; one row more than asked for tells that there are more.
pub(crate) async fn list(
    conn: &mut Conn,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Job>, DbError> {
    let rows = query(format!("SELECT {COLUMNS} FROM training_jobs WHERE 1 = 1"))
        .and("status = ?", filter.status.map(Status::as_str))
        .and("experiment_name = ?", filter.experiment_name.as_ref())
        .and("model_name = ?", filter.model_name.as_ref())
        .and(
            "(LOWER(script_name) LIKE ? ESCAPE '!' OR LOWER(experiment_name) LIKE ? ESCAPE '!'
             OR LOWER(model_name) LIKE ? ESCAPE '!' OR job_id LIKE ? ESCAPE '!')",
            filter.text.as_deref().map(like_pattern),
        )
        .and("job_id < ?", page.before.as_ref())
        .then(" ORDER BY job_id DESC LIMIT ?", page.limit + 1)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(read).collect())
}

/// `%text%` with LIKE's own characters escaped by `!`.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Stores how far a running job is; false when it is not running any more.
pub(crate) async fn update_progress(
    conn: &mut Conn,
    job_id: &str,
    progress: f64,
) -> Result<bool, DbError> {
    let n = query(
        "UPDATE training_jobs SET progress = $1 WHERE job_id = $2 AND status = 'running' AND completed_at IS NULL",
    )
    .bind(progress)
    .bind(job_id)
    .execute(conn)
    .await?;
    Ok(n == 1)
}

/// The job that a token was made for.
pub(crate) async fn find_by_token(
    conn: &mut Conn,
    token_hash: &str,
) -> Result<Option<String>, DbError> {
    let row = query("SELECT job_id FROM training_jobs WHERE token_hash = $1")
        .bind(token_hash)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// A job of its [`COLUMNS`]. One that cannot be read whole must not hide the others: it is given
/// as far as it can be, and says which column is not what this version writes.
pub(super) fn read(row: &Row) -> Job {
    let mut unreadable = None;
    let mut wrong = |column| unreadable = Some(column);
    let optional = |index: usize| row.get::<Option<String>, _>(index);
    let completed_at: Option<i64> = row.get(17);
    Job {
        job_id: row.get(0),
        request: parse(&row.get::<String, _>(1)).unwrap_or_else(|| {
            wrong("request");
            JobRequest::named(row.get(18), row.get(19), row.get(20))
        }),
        created_by: row.get(2),
        status: Status::parse(&row.get::<String, _>(3)).unwrap_or_else(|| {
            wrong("status");
            match completed_at {
                Some(_) => Status::Failed,
                None => Status::Queued,
            }
        }),
        phase: optional(4).as_deref().and_then(Phase::parse),
        reason: optional(5).as_deref().and_then(Reason::parse),
        attempt: row.get(6),
        cancel_requested: row.get(7),
        progress: row.get(8),
        run_id: row.get(9),
        model_version: row.get(10),
        error: optional(11).and_then(|text| {
            let error = parse(&text);
            if error.is_none() {
                wrong("error");
            }
            error
        }),
        warnings: parse(&row.get::<String, _>(12)).unwrap_or_else(|| {
            wrong("warnings");
            Vec::new()
        }),
        facts: parse(&row.get::<String, _>(13)).unwrap_or_else(|| {
            wrong("facts");
            Facts::default()
        }),
        created_at: row.get(14),
        started_at: row.get(15),
        script_started_at: row.get(16),
        completed_at,
        unreadable,
        sealed_variables: optional(21).filter(|sealed| !sealed.is_empty()),
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys and no failing parts")
}
