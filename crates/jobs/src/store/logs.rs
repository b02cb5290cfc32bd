//! The table `training_job_logs`: a log as chunks, each with the position of its first byte.

use db::{Conn, Error as DbError, query};

use crate::log::{Chunk, Stream};

/// Stores chunks that follow one another.
pub(crate) async fn insert(conn: &mut Conn, job_id: &str, chunks: &[Chunk]) -> Result<(), DbError> {
    for chunk in chunks {
        query(
            "INSERT INTO training_job_logs (job_id, start_byte, stream, at, content)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(job_id)
        .bind(chunk.start)
        .bind(chunk.stream.as_str())
        .bind(chunk.at)
        .bind(chunk.content.clone())
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Removes the chunks that lie between the kept head and the kept tail.
pub(crate) async fn delete_between(
    conn: &mut Conn,
    job_id: &str,
    from: i64,
    before: i64,
) -> Result<u64, DbError> {
    query(
        "DELETE FROM training_job_logs WHERE job_id = $1 AND start_byte >= $2 AND start_byte < $3",
    )
    .bind(job_id)
    .bind(from)
    .bind(before)
    .execute(conn)
    .await
}

/// Removes a whole log.
pub(crate) async fn delete(conn: &mut Conn, job_id: &str) -> Result<u64, DbError> {
    query("DELETE FROM training_job_logs WHERE job_id = $1")
        .bind(job_id)
        .execute(conn)
        .await
}

/// The ids behind `after`, in their order, of jobs that ended before a time and still have a part
/// of their log that is as old.
pub(crate) async fn list_old(
    conn: &mut Conn,
    before: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, DbError> {
    let rows = query(
        "SELECT j.job_id FROM training_jobs j
         WHERE j.job_id > $1 AND j.completed_at < $2 AND EXISTS (
            SELECT 1 FROM training_job_logs l WHERE l.job_id = j.job_id AND l.at < $2)
         ORDER BY j.job_id LIMIT $3",
    )
    .bind(after)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The chunks from the one that holds the byte `from` on, at most `limit` of them.
pub(crate) async fn list_from(
    conn: &mut Conn,
    job_id: &str,
    from: i64,
    limit: i64,
) -> Result<Vec<Chunk>, DbError> {
    let rows = query(
        "SELECT start_byte, stream, at, content FROM training_job_logs
         WHERE job_id = $1 AND start_byte >= COALESCE(
            (SELECT MAX(start_byte) FROM training_job_logs WHERE job_id = $1 AND start_byte <= $2), 0)
         ORDER BY start_byte LIMIT $3",
    )
    .bind(job_id)
    .bind(from)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows
        .iter()
        .map(|row| Chunk {
            start: row.get(0),
            stream: Stream::parse(&row.get::<String, _>(1)),
            at: row.get(2),
            content: row.get(3),
        })
        .collect())
}

/// The position after the last stored byte.
pub(crate) async fn find_end(conn: &mut Conn, job_id: &str) -> Result<i64, DbError> {
    let row = query(
        "SELECT start_byte + LENGTH(content) FROM training_job_logs
         WHERE job_id = $1 ORDER BY start_byte DESC LIMIT 1",
    )
    .bind(job_id)
    .fetch_optional(conn)
    .await?;
    Ok(row.map_or(0, |row| row.get(0)))
}
