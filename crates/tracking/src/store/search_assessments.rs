//! The conditions of a trace search on assessments.

use db::Backend;
use serde_json::Value;

use crate::search::assessments::{Judged, Kind};
use crate::store::statement::Statement;

/// Where the session of a trace stands in its metadata, and in that of an assessment of the whole
/// session.
const SESSION_KEY: &str = "mlflow.trace.session";

/// Adds that the trace `t`, or the session that it belongs to in these experiments, was judged so.
pub(crate) fn push(
    sql: &mut Statement,
    experiments: &[i64],
    (kind, name): (Kind, &str),
    is: &Judged,
) {
    if *is == Judged::Absent {
        sql.push("NOT ");
    }
    sql.push("(EXISTS (SELECT 1 FROM trace_assessments a WHERE a.trace_id = t.trace_id AND ");
    push_fit(sql, kind, name, is);
    sql.push(
        ") OR EXISTS (SELECT 1 FROM trace_metadata m WHERE m.trace_id = t.trace_id AND m.key = ",
    );
    let (key, among) = (sql.bind(SESSION_KEY), sql.bind_ids(experiments));
    sql.push(&format!(
        "{key} AND (m.value IN (
             SELECT n.value FROM trace_assessments a
                 JOIN traces o ON o.trace_id = a.trace_id
                 JOIN trace_metadata n ON n.trace_id = a.trace_id AND n.key = {key}
             WHERE o.experiment_id IN ({among}) AND "
    ));
    let of_session = match sql.backend() {
        Backend::Sqlite => {
            "json_type(a.message, '$.metadata.\"mlflow.trace.session\"') IS NOT NULL"
        }
        Backend::Postgres => {
            "(CAST(a.message AS JSON) -> 'metadata' -> 'mlflow.trace.session') IS NOT NULL"
        }
    };
    sql.push(of_session);
    sql.push(" AND ");
    push_fit(sql, kind, name, is);
    // PostgreSQL, which knows nothing about what JSON holds, would join them one by one; what is
    // asked whether it is true it looks up.
    sql.push(")) IS TRUE))");
}

/// Adds that somebody has linked the trace `t` to this issue.
pub(crate) fn push_issue(sql: &mut Statement, id: &str) {
    sql.push("EXISTS (SELECT 1 FROM trace_assessments a WHERE a.trace_id = t.trace_id AND ");
    let (issue, name) = (member(sql, &["issue"]), member(sql, &["assessment_name"]));
    let id = sql.bind(json(id));
    sql.push(&format!("{issue} IS NOT NULL AND {name} = {id})"));
}

/// Adds that the assessment `a` is valid, of this kind and name, and has such a value.
fn push_fit(sql: &mut Statement, kind: Kind, name: &str, is: &Judged) {
    let valid = member(sql, &["valid"]);
    let holds = member(sql, &[kind.as_str()]);
    let called = member(sql, &["assessment_name"]);
    let name = sql.bind(json(name));
    sql.push(&format!(
        "{valid} = 'true' AND {holds} IS NOT NULL AND {called} = {name}"
    ));
    match is {
        Judged::Present | Judged::Absent => {}
        Judged::Number { op, value } => {
            let written = member(sql, &[kind.as_str(), "value"]);
            sql.push(" AND ");
            sql.push_number(&number(&written), *op, *value);
        }
        Judged::Text(is) => {
            let plain = text(sql, &[kind.as_str(), "value"]);
            // What JSON has no plain value for, clients send as a text of JSON.
            let packed = text(sql, &[kind.as_str(), "serialized_value", "value"]);
            sql.push(" AND ");
            sql.push_text(
                &format!("COALESCE({plain}, {packed})"),
                is.operator,
                &is.value,
            );
        }
    }
}

/// A part of the message: a text as it is, everything else as it is written in JSON.
fn text(sql: &Statement, path: &[&str]) -> String {
    match sql.backend() {
        Backend::Sqlite => {
            let path = path.join(".");
            format!(
                "CASE json_type(a.message, '$.{path}') WHEN 'text' THEN a.message ->> '$.{path}'
                     ELSE a.message -> '$.{path}' END"
            )
        }
        Backend::Postgres => format!("CAST(a.message AS JSON) #>> '{{{}}}'", path.join(",")),
    }
}

/// A part of the message, as it is written in JSON.
fn member(sql: &Statement, path: &[&str]) -> String {
    match sql.backend() {
        Backend::Sqlite => format!("(a.message -> '$.{}')", path.join(".")),
        Backend::Postgres => format!(
            "CAST(CAST(a.message AS JSON) -> '{}' AS TEXT)",
            path.join("' -> '")
        ),
    }
}

/// A number, or null when what is written is none.
fn number(written: &str) -> String {
    format!(
        "CASE WHEN SUBSTR({written}, 1, 1) IN ('-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
             THEN CAST({written} AS DOUBLE PRECISION) END"
    )
}

fn json(text: &str) -> String {
    Value::from(text).to_string()
}
