//! The rows of versions.

use db::{Backend, Conn, Error, Row, query};

use super::aggregated;
use crate::selector::Selector;
use crate::stage::Stage;
use crate::version::ModelVersion;

/// The columns of a version `v`, with its tags and aliases as JSON.
pub(super) fn columns(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => {
            "v.name, v.version, v.source, v.location, v.run_id, v.run_link, v.model_id, v.job_id,
             v.stage, v.description, v.created_at, v.updated_at,
             (SELECT json_group_object(t.key, t.value) FROM model_version_tags t
              WHERE t.name = v.name AND t.version = v.version),
             (SELECT json_group_array(a.alias) FROM model_aliases a
              WHERE a.name = v.name AND a.version = v.version)"
        }
        Backend::Postgres => {
            "v.name, v.version, v.source, v.location, v.run_id, v.run_link, v.model_id, v.job_id,
             v.stage, v.description, v.created_at, v.updated_at,
             (SELECT CAST(json_object_agg(t.key, t.value) AS TEXT) FROM model_version_tags t
              WHERE t.name = v.name AND t.version = v.version),
             (SELECT CAST(json_agg(a.alias) AS TEXT) FROM model_aliases a
              WHERE a.name = v.name AND a.version = v.version)"
        }
    }
}

pub(crate) async fn insert(conn: &mut Conn, version: &ModelVersion) -> Result<(), Error> {
    query(
        "INSERT INTO model_versions (name, version, source, location, run_id, run_link, model_id,
             job_id, stage, description, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&version.name)
    .bind(version.version)
    .bind(&version.source)
    .bind(&version.location)
    .bind(&version.run_id)
    .bind(&version.run_link)
    .bind(&version.model_id)
    .bind(&version.job_id)
    .bind(version.stage.as_str())
    .bind(&version.description)
    .bind(version.created_at)
    .bind(version.updated_at)
    .execute(conn)
    .await?;
    for (key, value) in &version.tags {
        set_tag(conn, &version.name, version.version, key, value).await?;
    }
    Ok(())
}

/// The version that a selector means.
pub(crate) async fn select(
    conn: &mut Conn,
    name: &str,
    which: &Selector,
) -> Result<Option<ModelVersion>, Error> {
    let condition = match which {
        Selector::Latest => "ORDER BY v.version DESC LIMIT 1",
        Selector::Number(_) => "AND v.version = $2",
        Selector::Alias(_) => {
            "AND v.version = (SELECT a.version FROM model_aliases a WHERE a.name = $1 AND a.alias = $2)"
        }
        Selector::Stage(_) => "AND v.stage = $2 ORDER BY v.version DESC LIMIT 1",
    };
    let columns = columns(conn.backend());
    let statement = query(format!(
        "SELECT {columns} FROM model_versions v WHERE v.name = $1 {condition}"
    ))
    .bind(name);
    let statement = match which {
        Selector::Latest => statement,
        Selector::Number(number) => statement.bind(*number),
        Selector::Alias(text) | Selector::Stage(text) => statement.bind(text),
    };
    let row = statement.fetch_optional(conn).await?;
    Ok(row.as_ref().map(version))
}

/// The number of the newest version whose files are at this place.
pub(crate) async fn find_at(
    conn: &mut Conn,
    name: &str,
    location: &str,
) -> Result<Option<i64>, Error> {
    let row = query("SELECT MAX(version) FROM model_versions WHERE name = $1 AND location = $2")
        .bind(name)
        .bind(location)
        .fetch_one(conn)
        .await?;
    Ok(row.get(0))
}

/// A version, of any model, whose files are at this place or below it.
pub(crate) async fn find_within(
    conn: &mut Conn,
    location: &str,
) -> Result<Option<(String, i64)>, Error> {
    let below = format!("{location}/");
    let length = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
    let row = query(
        "SELECT name, version FROM model_versions
         WHERE location = $1 OR substr(location, 1, CAST($3 AS INTEGER)) = $2
         ORDER BY name, version LIMIT 1",
    )
    .bind(location)
    .bind(below)
    .bind(length)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The newest version in each stage of each of these models.
pub(crate) async fn list_latest(
    conn: &mut Conn,
    names: &[&str],
) -> Result<Vec<ModelVersion>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let columns = columns(conn.backend());
    let these = match conn.backend() {
        Backend::Sqlite => "SELECT value FROM json_each($1)",
        Backend::Postgres => "SELECT json_array_elements_text(CAST($1 AS JSON))",
    };
    let rows = query(format!(
        "SELECT {columns} FROM model_versions v
         WHERE v.name IN ({these}) AND v.version = (
             SELECT MAX(w.version) FROM model_versions w
             WHERE w.name = v.name AND w.stage = v.stage)
         ORDER BY v.name, v.version"
    ))
    .bind(serde_json::Value::from(names).to_string())
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(version).collect())
}

pub(crate) async fn list_of_model(conn: &mut Conn, name: &str) -> Result<Vec<ModelVersion>, Error> {
    let columns = columns(conn.backend());
    let rows = query(format!(
        "SELECT {columns} FROM model_versions v WHERE v.name = $1
         ORDER BY v.version DESC LIMIT 1000"
    ))
    .bind(name)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(version).collect())
}

pub(crate) async fn list_of_job(conn: &mut Conn, job_id: &str) -> Result<Vec<ModelVersion>, Error> {
    let columns = columns(conn.backend());
    let rows = query(format!(
        "SELECT {columns} FROM model_versions v WHERE v.job_id = $1
         ORDER BY v.created_at, v.name, v.version LIMIT 1000"
    ))
    .bind(job_id)
    .fetch_all(conn)
    .await?;
    Ok(rows.iter().map(version).collect())
}

pub(crate) async fn update_description(
    conn: &mut Conn,
    name: &str,
    version: i64,
    description: &str,
    now: i64,
) -> Result<(), Error> {
    query(
        "UPDATE model_versions SET description = $3, updated_at = $4
         WHERE name = $1 AND version = $2",
    )
    .bind(name)
    .bind(version)
    .bind(description)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn update_stage(
    conn: &mut Conn,
    name: &str,
    version: i64,
    stage: Stage,
    now: i64,
) -> Result<(), Error> {
    query("UPDATE model_versions SET stage = $3, updated_at = $4 WHERE name = $1 AND version = $2")
        .bind(name)
        .bind(version)
        .bind(stage.as_str())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// A version beside this one that is in a stage and that a job did not make.
pub(crate) async fn find_of_others_in_stage(
    conn: &mut Conn,
    name: &str,
    version: i64,
    stage: Stage,
    job_id: &str,
) -> Result<Option<i64>, Error> {
    let row = query(
        "SELECT MAX(version) FROM model_versions
         WHERE name = $1 AND version <> $2 AND stage = $3 AND COALESCE(job_id, '') <> $4",
    )
    .bind(name)
    .bind(version)
    .bind(stage.as_str())
    .bind(job_id)
    .fetch_one(conn)
    .await?;
    Ok(row.get(0))
}

/// A version whose files are at one of `places` or below `above`, and that `job_id`, unless it is
/// empty, did not make.
pub(crate) async fn find_around(
    conn: &mut Conn,
    places: &[String],
    above: Option<&str>,
    job_id: &str,
) -> Result<Option<(String, i64)>, Error> {
    let these = match conn.backend() {
        Backend::Sqlite => "SELECT value FROM json_each($1)",
        Backend::Postgres => "SELECT json_array_elements_text(CAST($1 AS JSON))",
    };
    let below = match above {
        Some(_) => "OR location LIKE $3 ESCAPE '!'",
        None => "",
    };
    let statement = query(format!(
        "SELECT name, version FROM model_versions
         WHERE (location IN ({these}) {below}) AND ($2 = '' OR COALESCE(job_id, '') <> $2)
         ORDER BY name, version LIMIT 1"
    ))
    .bind(serde_json::Value::from(places).to_string())
    .bind(job_id);
    let statement = match above {
        Some(folder) => {
            let escaped = folder
                .replace('!', "!!")
                .replace('%', "!%")
                .replace('_', "!_");
            statement.bind(format!("{escaped}/%"))
        }
        None => statement,
    };
    let row = statement.fetch_optional(conn).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The values that a tag has on versions.
pub(crate) async fn list_tag_values(conn: &mut Conn, key: &str) -> Result<Vec<String>, Error> {
    let rows = query("SELECT DISTINCT value FROM model_version_tags WHERE key = $1")
        .bind(key)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(crate) async fn archive_others(
    conn: &mut Conn,
    name: &str,
    version: i64,
    stage: Stage,
    now: i64,
) -> Result<(), Error> {
    query(
        "UPDATE model_versions SET stage = 'Archived', updated_at = $4
         WHERE name = $1 AND version <> $2 AND stage = $3",
    )
    .bind(name)
    .bind(version)
    .bind(stage.as_str())
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, name: &str, version: i64) -> Result<u64, Error> {
    query("DELETE FROM model_versions WHERE name = $1 AND version = $2")
        .bind(name)
        .bind(version)
        .execute(conn)
        .await
}

pub(crate) async fn set_tag(
    conn: &mut Conn,
    name: &str,
    version: i64,
    key: &str,
    value: &str,
) -> Result<(), Error> {
    query(
        "INSERT INTO model_version_tags (name, version, key, value) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name, version, key) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(version)
    .bind(key)
    .bind(value)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete_tag(
    conn: &mut Conn,
    name: &str,
    version: i64,
    key: &str,
) -> Result<(), Error> {
    query("DELETE FROM model_version_tags WHERE name = $1 AND version = $2 AND key = $3")
        .bind(name)
        .bind(version)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// A version of its [`columns`].
pub(super) fn version(row: &Row) -> ModelVersion {
    let mut aliases: Vec<String> = aggregated(row.get(13));
    aliases.sort();
    ModelVersion {
        name: row.get(0),
        version: row.get(1),
        source: row.get(2),
        location: row.get(3),
        run_id: row.get(4),
        run_link: row.get(5),
        model_id: row.get(6),
        job_id: row.get(7),
        stage: Stage::parse(&row.get::<String, _>(8)).unwrap_or_default(),
        description: row.get(9),
        created_at: row.get(10),
        updated_at: row.get(11),
        tags: aggregated(row.get(12)),
        aliases,
    }
}
