//! The conditions of a trace search on assessments.

use db::Backend;
use serde_json::Value;

use crate::filter::{Op, Operand};
use crate::search::assessments::{Judged, Kind};
use crate::search::runs::Text;
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
        "{key} AND m.value IN (
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
    sql.push(")))");
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
    let plain = member(sql, &[kind.as_str(), "value"]);
    match is {
        Judged::Present | Judged::Absent => {}
        Judged::Number { op, value } => {
            sql.push(" AND ");
            sql.push_number(&number(&plain), *op, *value);
        }
        Judged::Text(is) => {
            // What JSON has no plain value for, clients send as a text of JSON.
            let packed = member(sql, &[kind.as_str(), "serialized_value", "value"]);
            push_text(sql, &format!("COALESCE({plain}, {packed})"), is);
        }
    }
}

/// A text equals what is written in quotes, anything else what is written without; patterns look
/// at what stands between the quotes.
fn push_text(sql: &mut Statement, value: &str, is: &Text) {
    match (is.operator, &is.value) {
        (op @ (Op::Eq | Op::Ne), Operand::Text(text)) => {
            let not = if op == Op::Ne { "NOT " } else { "" };
            let (bare, quoted) = (sql.bind(text), sql.bind(json(text)));
            sql.push(&format!(" AND {not}({value} IN ({bare}, {quoted}))"));
        }
        (op, operand) => {
            sql.push(" AND ");
            let between = match sql.backend() {
                Backend::Sqlite => format!("TRIM({value}, '\"')"),
                Backend::Postgres => format!("TRIM(BOTH '\"' FROM {value})"),
            };
            sql.push_text(&between, op, operand);
        }
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
