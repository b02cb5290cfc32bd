//! The rows of registered models.

use db::{Backend, Conn, Error, Row, query};

use super::aggregated;
use crate::model::RegisteredModel;

/// The columns of a model `m`, with its tags and aliases as JSON.
pub(super) fn columns(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => {
            "m.name, m.description, m.created_at, m.updated_at, m.job_id,
             (SELECT json_group_object(t.key, t.value) FROM registered_model_tags t
              WHERE t.name = m.name),
             (SELECT json_group_object(a.alias, a.version) FROM model_aliases a
              WHERE a.name = m.name)"
        }
        Backend::Postgres => {
            "m.name, m.description, m.created_at, m.updated_at, m.job_id,
             (SELECT CAST(json_object_agg(t.key, t.value) AS TEXT) FROM registered_model_tags t
              WHERE t.name = m.name),
             (SELECT CAST(json_object_agg(a.alias, a.version) AS TEXT) FROM model_aliases a
              WHERE a.name = m.name)"
        }
    }
}

/// Tells whether the name was free.
pub(crate) async fn insert(conn: &mut Conn, model: &RegisteredModel) -> Result<bool, Error> {
    let inserted = query(
        "INSERT INTO registered_models (name, description, last_version, created_at, updated_at, job_id)
         VALUES ($1, $2, 0, $3, $4, $5) ON CONFLICT (name) DO NOTHING",
    )
    .bind(&model.name)
    .bind(&model.description)
    .bind(model.created_at)
    .bind(model.updated_at)
    .bind(&model.job_id)
    .execute(conn)
    .await?;
    if inserted == 0 {
        return Ok(false);
    }
    for (key, value) in &model.tags {
        set_tag(conn, &model.name, key, value).await?;
    }
    Ok(true)
}

pub(crate) async fn find(conn: &mut Conn, name: &str) -> Result<Option<RegisteredModel>, Error> {
    let columns = columns(conn.backend());
    let row = query(format!(
        "SELECT {columns} FROM registered_models m WHERE m.name = $1"
    ))
    .bind(name)
    .fetch_optional(conn)
    .await?;
    Ok(row.as_ref().map(model))
}

/// Names in alphabetical order.
pub(crate) async fn list_names(conn: &mut Conn, limit: i64) -> Result<Vec<String>, Error> {
    let rows = query("SELECT name FROM registered_models ORDER BY name LIMIT $1")
        .bind(limit)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// How many there are, without prompts.
pub(crate) async fn count(conn: &mut Conn) -> Result<i64, Error> {
    let row = query(
        "SELECT COUNT(*) FROM registered_models m WHERE NOT EXISTS (
             SELECT 1 FROM registered_model_tags t
             WHERE t.name = m.name AND t.key = 'mlflow.prompt.is_prompt' AND t.value = 'true')",
    )
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

/// Keeps others from adding versions to a model until the transaction ends.
pub(crate) async fn lock(conn: &mut Conn, name: &str) -> Result<(), Error> {
    query("UPDATE registered_models SET name = name WHERE name = $1")
        .bind(name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes the number of a new version, if there is such a model.
pub(crate) async fn take_version(
    conn: &mut Conn,
    name: &str,
    now: i64,
) -> Result<Option<i64>, Error> {
    let row = query(
        "UPDATE registered_models SET last_version = last_version + 1, updated_at = $2
         WHERE name = $1 RETURNING last_version",
    )
    .bind(name)
    .bind(now)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.get(0)))
}

pub(crate) async fn touch(conn: &mut Conn, name: &str, now: i64) -> Result<bool, Error> {
    let touched = query("UPDATE registered_models SET updated_at = $2 WHERE name = $1")
        .bind(name)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(touched == 1)
}

pub(crate) async fn update_description(
    conn: &mut Conn,
    name: &str,
    description: &str,
    now: i64,
) -> Result<(), Error> {
    query("UPDATE registered_models SET description = $2, updated_at = $3 WHERE name = $1")
        .bind(name)
        .bind(description)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn rename(
    conn: &mut Conn,
    name: &str,
    new_name: &str,
    now: i64,
) -> Result<(), Error> {
    query("UPDATE registered_models SET name = $2, updated_at = $3 WHERE name = $1")
        .bind(name)
        .bind(new_name)
        .bind(now)
        .execute(conn)
        .await?;
    query("UPDATE model_versions SET updated_at = $2 WHERE name = $1")
        .bind(new_name)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, name: &str) -> Result<u64, Error> {
    query("DELETE FROM registered_models WHERE name = $1")
        .bind(name)
        .execute(conn)
        .await
}

pub(crate) async fn set_tag(
    conn: &mut Conn,
    name: &str,
    key: &str,
    value: &str,
) -> Result<(), Error> {
    query(
        "INSERT INTO registered_model_tags (name, key, value) VALUES ($1, $2, $3)
         ON CONFLICT (name, key) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(key)
    .bind(value)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete_tag(conn: &mut Conn, name: &str, key: &str) -> Result<(), Error> {
    query("DELETE FROM registered_model_tags WHERE name = $1 AND key = $2")
        .bind(name)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// A model of its [`columns`].
pub(super) fn model(row: &Row) -> RegisteredModel {
    RegisteredModel {
        name: row.get(0),
        description: row.get(1),
        created_at: row.get(2),
        updated_at: row.get(3),
        job_id: row.get(4),
        tags: aggregated(row.get(5)),
        aliases: aggregated(row.get(6)),
        latest_versions: Vec::new(),
    }
}
