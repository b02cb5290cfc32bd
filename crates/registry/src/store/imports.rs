//! Rows of another server's registry, written beside what is here.

use db::{Conn, Error, query};

use crate::import::{ImportedAlias, ImportedTag};
use crate::model::RegisteredModel;
use crate::version::ModelVersion;

/// Adds a model that is not there yet, and tells how many that were.
pub(crate) async fn model(conn: &mut Conn, model: &RegisteredModel) -> Result<u64, Error> {
    query(
        "INSERT INTO registered_models (name, description, last_version, created_at, updated_at)
         VALUES ($1, $2, 0, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(&model.name)
    .bind(&model.description)
    .bind(model.created_at)
    .bind(model.updated_at)
    .execute(conn)
    .await
}

/// Makes the next version's number greater than this; tells how many models there are of the name.
pub(crate) async fn skip_versions(conn: &mut Conn, name: &str, version: i64) -> Result<u64, Error> {
    query(
        "UPDATE registered_models
         SET last_version = CASE WHEN last_version < $2 THEN $2 ELSE last_version END
         WHERE name = $1",
    )
    .bind(name)
    .bind(version)
    .execute(conn)
    .await
}

/// Adds a version that is not there yet, and tells how many that were.
pub(crate) async fn version(conn: &mut Conn, version: &ModelVersion) -> Result<u64, Error> {
    query(
        "INSERT INTO model_versions (name, version, source, location, run_id, run_link, model_id,
             stage, description, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
    )
    .bind(&version.name)
    .bind(version.version)
    .bind(&version.source)
    .bind(&version.location)
    .bind(&version.run_id)
    .bind(&version.run_link)
    .bind(&version.model_id)
    .bind(version.stage.as_str())
    .bind(&version.description)
    .bind(version.created_at)
    .bind(version.updated_at)
    .execute(conn)
    .await
}

async fn has_version(conn: &mut Conn, name: &str, version: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM model_versions WHERE name = $1 AND version = $2";
    let found = query(sql).bind(name).bind(version);
    Ok(found.fetch_optional(conn).await?.is_some())
}

/// Adds a tag that is not there yet; nothing when its model or version is not there.
pub(crate) async fn tag(conn: &mut Conn, tag: &ImportedTag) -> Result<Option<u64>, Error> {
    let Some(version) = tag.version else {
        let sql = "SELECT 1 FROM registered_models WHERE name = $1";
        let found = query(sql).bind(&tag.model).fetch_optional(conn).await?;
        if found.is_none() {
            return Ok(None);
        }
        let insert = query(
            "INSERT INTO registered_model_tags (name, key, value) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        );
        let insert = insert.bind(&tag.model).bind(&tag.key).bind(&tag.value);
        return insert.execute(conn).await.map(Some);
    };
    if !has_version(conn, &tag.model, version).await? {
        return Ok(None);
    }
    query(
        "INSERT INTO model_version_tags (name, version, key, value) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&tag.model)
    .bind(version)
    .bind(&tag.key)
    .bind(&tag.value)
    .execute(conn)
    .await
    .map(Some)
}

/// Adds an alias that is not there yet; nothing when its version is not there.
pub(crate) async fn alias(conn: &mut Conn, alias: &ImportedAlias) -> Result<Option<u64>, Error> {
    if !has_version(conn, &alias.model, alias.version).await? {
        return Ok(None);
    }
    query(
        "INSERT INTO model_aliases (name, alias, version) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(&alias.model)
    .bind(&alias.alias)
    .bind(alias.version)
    .execute(conn)
    .await
    .map(Some)
}
