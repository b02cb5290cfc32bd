//! The tables of tags and params: keys and values of runs, tags of experiments.

use std::collections::BTreeMap;

use db::{Backend, Conn, Error, query};

use crate::store::Texts;

/// Sets tags of a run, in the order of their keys: two writers never wait for each other.
pub(crate) async fn set_of_run(
    conn: &mut Conn,
    run: i64,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let insert = "INSERT INTO tags (run, key, value)";
    let conflict = "ON CONFLICT (run, key) DO UPDATE SET value = excluded.value";
    upsert(conn, insert, conflict, run, tags).await.map(|_| ())
}

/// Sets tags of an experiment.
pub(crate) async fn set_of_experiment(
    conn: &mut Conn,
    experiment_id: i64,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let insert = "INSERT INTO experiment_tags (experiment_id, key, value)";
    let conflict = "ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value";
    upsert(conn, insert, conflict, experiment_id, tags)
        .await
        .map(|_| ())
}

/// Adds params; those that are there already are left alone. Tells how many were new.
pub(crate) async fn insert_params(
    conn: &mut Conn,
    run: i64,
    params: &BTreeMap<String, String>,
) -> Result<u64, Error> {
    let insert = "INSERT INTO params (run, key, value)";
    upsert(
        conn,
        insert,
        "ON CONFLICT (run, key) DO NOTHING",
        run,
        params,
    )
    .await
}

/// Adds the rows of one owner, in the order of their keys.
async fn upsert(
    conn: &mut Conn,
    insert: &str,
    conflict: &str,
    owner: i64,
    pairs: &BTreeMap<String, String>,
) -> Result<u64, Error> {
    if pairs.is_empty() {
        return Ok(0);
    }
    if conn.backend() == Backend::Postgres {
        return query(format!(
            "{insert} SELECT $1, * FROM UNNEST($2::TEXT[], $3::TEXT[]) {conflict}"
        ))
        .bind(owner)
        .bind(pairs.keys().cloned().collect::<Vec<String>>())
        .bind(pairs.values().cloned().collect::<Vec<String>>())
        .execute(conn)
        .await;
    }
    let mut each = query(format!("{insert} VALUES (?, ?, ?) {conflict}"));
    for (key, value) in pairs {
        each = each.bind(owner).bind(key).bind(value);
    }
    each.execute_each(conn, 3).await
}

/// The values that params of a run have.
pub(crate) async fn params_of_run(
    conn: &mut Conn,
    run: i64,
    keys: impl Iterator<Item = &str>,
) -> Result<Vec<(String, String)>, Error> {
    let keys = Texts::of(keys);
    let sql = format!(
        "SELECT key, value FROM params WHERE run = $2 AND key IN ({}) ORDER BY key",
        keys.select(conn.backend(), 1)
    );
    let rows = query(sql)
        .bind(keys.text())
        .bind(run)
        .fetch_all(conn)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The value of one tag of a run.
pub(crate) async fn find_of_run(
    conn: &mut Conn,
    run: i64,
    key: &str,
) -> Result<Option<String>, Error> {
    let row = query("SELECT value FROM tags WHERE run = $1 AND key = $2")
        .bind(run)
        .bind(key)
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Removes a tag, and tells whether there was one.
pub(crate) async fn delete_of_run(conn: &mut Conn, run: i64, key: &str) -> Result<bool, Error> {
    let gone = query("DELETE FROM tags WHERE run = $1 AND key = $2")
        .bind(run)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(gone > 0)
}

/// Removes a tag, and tells whether there was one.
pub(crate) async fn delete_of_experiment(
    conn: &mut Conn,
    experiment_id: i64,
    key: &str,
) -> Result<bool, Error> {
    let gone = query("DELETE FROM experiment_tags WHERE experiment_id = $1 AND key = $2")
        .bind(experiment_id)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(gone > 0)
}
