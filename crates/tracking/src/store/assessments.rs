//! The rows of assessments.

use std::collections::HashMap;

use db::{Conn, Error, Row, query};
use serde_json::Value;

use crate::assessment::Assessment;
use crate::store::Texts;

const COLUMNS: &str = "assessment_id, trace_id, message, created_at";

fn read(row: &Row) -> Assessment {
    Assessment {
        assessment_id: row.get(0),
        trace_id: row.get(1),
        message: serde_json::from_str(&row.get::<String, _>(2))
            .expect("the message was written as a JSON object"),
        created_at: row.get(3),
    }
}

/// The message as it is kept: PostgreSQL refuses to look into JSON with a NUL character, which imported
/// ones may hold.
fn text(assessment: &Assessment) -> String {
    let text = Value::from(assessment.message.clone()).to_string();
    match text.contains("\\u0000") {
        true => without_nul(assessment.message.clone().into()).to_string(),
        false => text,
    }
}

fn without_nul(value: Value) -> Value {
    let plain = |text: &str| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(text) => plain(&text).into(),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(key, value)| (plain(&key), without_nul(value)));
            Value::Object(members.collect())
        }
        other => other,
    }
}

pub(crate) async fn insert(conn: &mut Conn, assessment: &Assessment) -> Result<(), Error> {
    query(format!(
        "INSERT INTO trace_assessments ({COLUMNS}) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    ))
    .bind(&assessment.assessment_id)
    .bind(&assessment.trace_id)
    .bind(text(assessment))
    .bind(assessment.created_at)
    .execute(conn)
    .await
    .map(|_| ())
}

pub(crate) async fn update(conn: &mut Conn, assessment: &Assessment) -> Result<(), Error> {
    query("UPDATE trace_assessments SET message = $2 WHERE assessment_id = $1")
        .bind(&assessment.assessment_id)
        .bind(text(assessment))
        .execute(conn)
        .await
        .map(|_| ())
}

pub(crate) async fn delete(
    conn: &mut Conn,
    trace_id: &str,
    assessment_id: &str,
) -> Result<u64, Error> {
    query("DELETE FROM trace_assessments WHERE trace_id = $1 AND assessment_id = $2")
        .bind(trace_id)
        .bind(assessment_id)
        .execute(conn)
        .await
}

pub(crate) async fn find(
    conn: &mut Conn,
    trace_id: &str,
    assessment_id: &str,
) -> Result<Option<Assessment>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM trace_assessments WHERE trace_id = $1 AND assessment_id = $2"
    );
    let found = query(sql).bind(trace_id).bind(assessment_id);
    Ok(found.fetch_optional(conn).await?.as_ref().map(read))
}

/// The assessments of many traces, by trace, the oldest first.
pub(crate) async fn of_traces<'t>(
    conn: &mut Conn,
    trace_ids: impl IntoIterator<Item = &'t str>,
) -> Result<HashMap<String, Vec<Assessment>>, Error> {
    let ids = Texts::of(trace_ids);
    let among = ids.select(conn.backend(), 1);
    let sql = format!(
        "SELECT {COLUMNS} FROM trace_assessments WHERE trace_id IN ({among})
         ORDER BY trace_id, created_at, assessment_id"
    );
    let mut found = HashMap::<String, Vec<Assessment>>::new();
    for row in query(sql).bind(ids.text()).fetch_all(conn).await? {
        let assessment = read(&row);
        found
            .entry(assessment.trace_id.clone())
            .or_default()
            .push(assessment);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_characters_are_replaced_and_nothing_else() {
        let before = json!({"a\0": ["x\0y", 1, null], "b": {"c": "\\u0000"}});
        let after = json!({"a\u{fffd}": ["x\u{fffd}y", 1, null], "b": {"c": "\\u0000"}});
        assert_eq!(without_nul(before), after);
    }
}
