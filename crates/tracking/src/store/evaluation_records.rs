//! The table of the records of evaluation datasets.

use db::{Conn, Error, Row, query};
use serde_json::Value;

use crate::evaluation_record::EvaluationRecord;
use crate::store::{Texts, rows_of_values};

const COLUMNS: &str = "record_id, position, inputs_hash, message";

fn read(row: &Row) -> EvaluationRecord {
    EvaluationRecord {
        record_id: row.get(0),
        position: row.get(1),
        inputs_hash: row.get(2),
        message: serde_json::from_str(&row.get::<String, _>(3))
            .expect("the message was written as a JSON object"),
    }
}

pub(crate) fn text(record: &EvaluationRecord) -> String {
    Value::from(record.message.clone()).to_string()
}

pub(crate) async fn insert(
    conn: &mut Conn,
    dataset_id: &str,
    records: &[&EvaluationRecord],
) -> Result<(), Error> {
    for chunk in records.chunks(200) {
        let sql = format!(
            "INSERT INTO evaluation_records (dataset_id, {COLUMNS}) VALUES {}",
            rows_of_values(conn.backend(), chunk.len(), 5)
        );
        let mut insert = query(sql);
        for record in chunk {
            insert = insert
                .bind(dataset_id)
                .bind(&record.record_id)
                .bind(record.position)
                .bind(&record.inputs_hash)
                .bind(text(record));
        }
        insert.execute(conn).await?;
    }
    Ok(())
}

/// Writes the message of a record.
pub(crate) async fn update(conn: &mut Conn, record: &EvaluationRecord) -> Result<(), Error> {
    query("UPDATE evaluation_records SET message = $2 WHERE record_id = $1")
        .bind(&record.record_id)
        .bind(text(record))
        .execute(conn)
        .await
        .map(|_| ())
}

/// The records with these inputs.
pub(crate) async fn of_inputs(
    conn: &mut Conn,
    dataset_id: &str,
    hashes: &[String],
) -> Result<Vec<EvaluationRecord>, Error> {
    let hashes = Texts::of(hashes.iter().map(String::as_str));
    let sql = format!(
        "SELECT {COLUMNS} FROM evaluation_records WHERE dataset_id = $2 AND inputs_hash IN ({})",
        hashes.select(conn.backend(), 1)
    );
    let rows = query(sql).bind(hashes.text()).bind(dataset_id);
    Ok(rows.fetch_all(conn).await?.iter().map(read).collect())
}

/// The records from a position on.
pub(crate) async fn list(
    conn: &mut Conn,
    dataset_id: &str,
    from: i64,
    limit: i64,
) -> Result<Vec<EvaluationRecord>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM evaluation_records WHERE dataset_id = $1 AND position >= $2
         ORDER BY position LIMIT $3"
    );
    let rows = query(sql).bind(dataset_id).bind(from).bind(limit);
    Ok(rows.fetch_all(conn).await?.iter().map(read).collect())
}

/// The position of the next new record.
pub(crate) async fn next_position(conn: &mut Conn, dataset_id: &str) -> Result<i64, Error> {
    let row = query(
        "SELECT COALESCE(MAX(position), -1) + 1 FROM evaluation_records WHERE dataset_id = $1",
    )
    .bind(dataset_id)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

pub(crate) async fn count(conn: &mut Conn, dataset_id: &str) -> Result<i64, Error> {
    let row = query("SELECT COUNT(*) FROM evaluation_records WHERE dataset_id = $1")
        .bind(dataset_id)
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

/// Removes records, and tells how many there were.
pub(crate) async fn delete(
    conn: &mut Conn,
    dataset_id: &str,
    record_ids: &[String],
) -> Result<u64, Error> {
    let ids = Texts::of(record_ids.iter().map(String::as_str));
    let sql = format!(
        "DELETE FROM evaluation_records WHERE dataset_id = $2 AND record_id IN ({})",
        ids.select(conn.backend(), 1)
    );
    query(sql)
        .bind(ids.text())
        .bind(dataset_id)
        .execute(conn)
        .await
}
