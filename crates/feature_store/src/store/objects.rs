//! Definitions: the bytes of each, by project, kind and name.

use db::{Conn, Error, Row, query};

/// A stored definition.
#[derive(Debug, Clone)]
pub(crate) struct ObjectRow {
    pub(crate) name: String,
    pub(crate) spec: Vec<u8>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

const COLUMNS: &str = "name, spec, created_at, updated_at";

fn read(row: &Row) -> ObjectRow {
    ObjectRow {
        name: row.get(0),
        spec: row.get(1),
        created_at: row.get(2),
        updated_at: row.get(3),
    }
}

/// The most definitions of one kind in one project that are read at once.
const LIMIT: i64 = 10_000;

pub(crate) async fn find(
    conn: &mut Conn,
    project: &str,
    kind: &str,
    name: &str,
) -> Result<Option<ObjectRow>, Error> {
    let row = query(format!(
        "SELECT {COLUMNS} FROM feature_objects WHERE project = $1 AND kind = $2 AND name = $3"
    ))
    .bind(project)
    .bind(kind)
    .bind(name)
    .fetch_optional(conn)
    .await?;
    Ok(row.as_ref().map(read))
}

pub(crate) async fn list(
    conn: &mut Conn,
    project: &str,
    kind: &str,
) -> Result<Vec<ObjectRow>, Error> {
    let rows = query(format!(
        "SELECT {COLUMNS} FROM feature_objects WHERE project = $1 AND kind = $2
         ORDER BY name LIMIT $3"
    ))
    .bind(project)
    .bind(kind)
    .bind(LIMIT)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(read).collect())
}

/// Writes a definition; one that is there keeps its time of creation.
pub(crate) async fn upsert(
    conn: &mut Conn,
    project: &str,
    kind: &str,
    name: &str,
    spec: &[u8],
    now: i64,
) -> Result<(), Error> {
    query(
        "INSERT INTO feature_objects (project, kind, name, spec, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (project, kind, name)
         DO UPDATE SET spec = excluded.spec, updated_at = excluded.updated_at",
    )
    .bind(project)
    .bind(kind)
    .bind(name)
    .bind(spec.to_vec())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete(
    conn: &mut Conn,
    project: &str,
    kind: &str,
    name: &str,
) -> Result<bool, Error> {
    let deleted =
        query("DELETE FROM feature_objects WHERE project = $1 AND kind = $2 AND name = $3")
            .bind(project)
            .bind(kind)
            .bind(name)
            .execute(conn)
            .await?;
    Ok(deleted > 0)
}

pub(crate) async fn count(conn: &mut Conn, kind: &str) -> Result<i64, Error> {
    let row = query("SELECT COUNT(*) FROM feature_objects WHERE kind = $1")
        .bind(kind)
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

pub(crate) async fn projects(conn: &mut Conn) -> Result<Vec<String>, Error> {
    let rows = query("SELECT DISTINCT project FROM feature_objects ORDER BY project LIMIT $1")
        .bind(LIMIT)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
