//! Searches for traces.

use db::{Backend, Conn, Error};

use crate::filter::{Op, Operand};
use crate::search::runs::Text;
use crate::search::traces::{Column, Condition, NAME_KEY, OfSpan, Plan, RUN_KEY};
use crate::store::statement::Statement;
use crate::store::{search_assessments, traces};
use crate::trace::Trace;
use crate::trace_link::LinkKind;

/// The traces of a page, and one more if there is one; without metadata and tags.
pub(crate) async fn traces(conn: &mut Conn, plan: &Plan) -> Result<Vec<Trace>, Error> {
    let (limit, offset) = (plan.page.lookahead(), plan.page.offset);
    let found = search(conn, traces::COLUMNS, plan, Untold::Fails, (limit, offset));
    let rows = found.fetch_all(conn).await?;
    Ok(rows.iter().map(traces::read).collect())
}

/// The ids of the first traces that a search would find if all spans without their texts fitted.
pub(crate) async fn candidates(
    conn: &mut Conn,
    plan: &Plan,
    count: i64,
) -> Result<Vec<String>, Error> {
    let found = search(conn, "t.trace_id", plan, Untold::Fits, (count, 0));
    let rows = found.fetch_all(conn).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What a span counts as that lacks what searches look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untold {
    Fits,
    Fails,
}

fn search(
    conn: &Conn,
    columns: &str,
    plan: &Plan,
    untold: Untold,
    (limit, offset): (i64, i64),
) -> Statement {
    let mut sql = start(conn, columns, &plan.experiments);
    for condition in &plan.conditions {
        push(&mut sql, &plan.experiments, condition, untold);
    }
    sql.push(" ORDER BY ");
    for (column, descending) in &plan.order {
        let direction = if *descending { "DESC" } else { "ASC" };
        let column = name(&mut sql, *column);
        sql.push(&format!("{column} IS NULL, {column} {direction}, "));
    }
    let (limit, offset) = (sql.bind(limit), sql.bind(offset));
    sql.push(&format!(
        "t.request_time DESC, t.trace_id LIMIT {limit} OFFSET {offset}"
    ));
    sql
}

/// How many traces of experiments fit.
pub(crate) async fn count(
    conn: &mut Conn,
    experiments: &[i64],
    conditions: &[&Condition],
) -> Result<i64, Error> {
    let mut sql = start(conn, "COUNT(*)", experiments);
    for condition in conditions {
        push(&mut sql, experiments, condition, Untold::Fails);
    }
    Ok(sql.fetch_one(conn).await?.get(0))
}

fn start(conn: &Conn, columns: &str, experiments: &[i64]) -> Statement {
    let mut sql = Statement::new(conn.backend(), &format!("SELECT {columns} FROM traces t"));
    let among = sql.bind_ids(experiments);
    sql.push(&format!(" WHERE t.experiment_id IN ({among})"));
    sql
}

fn push(sql: &mut Statement, experiments: &[i64], condition: &Condition, untold: Untold) {
    sql.push(" AND ");
    match condition {
        Condition::Id(is) => sql.push_text("t.trace_id", is.operator, &is.value),
        Condition::State(is) => sql.push_text("t.state", is.operator, &is.value),
        Condition::ClientRequest(is) => {
            sql.push_text("t.client_request_id", is.operator, &is.value);
        }
        Condition::Tag { key, is } => push_pair(sql, "trace_tags", key, is),
        Condition::Metadata { key, is } => push_pair(sql, "trace_metadata", key, is),
        Condition::Number { column, op, value } => {
            let column = name(sql, *column);
            sql.push_number(&column, *op, *value);
        }
        Condition::Run(run_id) => {
            let (key, run) = (sql.bind(RUN_KEY), sql.bind(run_id));
            sql.push(&format!(
                "(EXISTS (SELECT 1 FROM trace_metadata p
                     WHERE p.trace_id = t.trace_id AND p.key = {key} AND p.value = {run}) OR "
            ));
            push_link(sql, LinkKind::Run, run_id);
            sql.push(")");
        }
        Condition::Prompt(version) => push_link(sql, LinkKind::Prompt, version),
        Condition::Span(conditions) => push_span(sql, conditions, untold),
        Condition::Assessment { kind, name, is } => {
            search_assessments::push(sql, experiments, (*kind, name), is);
        }
        Condition::Issue(id) => search_assessments::push_issue(sql, id),
    }
}

fn push_link(sql: &mut Statement, kind: LinkKind, target: &str) {
    let (kind, target) = (sql.bind(kind.as_str()), sql.bind(target));
    sql.push(&format!(
        "EXISTS (SELECT 1 FROM trace_links l
             WHERE l.trace_id = t.trace_id AND l.kind = {kind} AND l.target = {target})"
    ));
}

fn push_span(sql: &mut Statement, conditions: &[OfSpan], untold: Untold) {
    sql.push("EXISTS (SELECT 1 FROM trace_spans s WHERE s.trace_id = t.trace_id AND (");
    if untold == Untold::Fits {
        sql.push("s.content IS NULL OR ");
    }
    for (index, condition) in conditions.iter().enumerate() {
        sql.push(if index == 0 { "" } else { " AND " });
        let (column, is) = match condition {
            OfSpan::Name(is) => ("s.name", is),
            OfSpan::Type(is) => ("s.type", is),
            OfSpan::Status(is) => ("s.status", is),
            OfSpan::Content(is) => ("s.content", is),
            OfSpan::Attribute { key, is } => {
                push_attribute(sql, key, is);
                continue;
            }
        };
        sql.push_text(column, is.operator, &is.value);
    }
    sql.push("))");
}

/// Each attribute of a span's text is JSON in a text of its own.
fn push_attribute(sql: &mut Statement, key: &str, is: &Text) {
    let key = sql.bind(key);
    let (attributes, value) = match sql.backend() {
        Backend::Sqlite => (
            "json_each(s.content, '$.attributes') a",
            "CASE json_type(a.value) WHEN 'text' THEN json_extract(a.value, '$') ELSE a.value END",
        ),
        Backend::Postgres => (
            "json_each_text(CAST(s.content AS JSON) -> 'attributes') a",
            "CASE WHEN a.value LIKE '\"%' THEN CAST(a.value AS JSON) #>> '{}' ELSE a.value END",
        ),
    };
    sql.push(&format!(
        "EXISTS (SELECT 1 FROM {attributes} WHERE a.key = {key} AND "
    ));
    sql.push_text(value, is.operator, &is.value);
    sql.push(")");
}

fn push_pair(sql: &mut Statement, table: &str, key: &str, is: &Text) {
    let not = if is.operator == Op::IsNull {
        "NOT "
    } else {
        ""
    };
    let key = sql.bind(key);
    sql.push(&format!(
        "{not}EXISTS (SELECT 1 FROM {table} p WHERE p.trace_id = t.trace_id AND p.key = {key}"
    ));
    if is.value != Operand::Nothing {
        sql.push(" AND ");
        sql.push_text("p.value", is.operator, &is.value);
    }
    sql.push(")");
}

fn name(sql: &mut Statement, column: Column) -> String {
    let (table, key) = match column {
        Column::Id => return "t.trace_id".to_owned(),
        Column::State => return "t.state".to_owned(),
        Column::Time => return "t.request_time".to_owned(),
        Column::Duration => return "t.duration_ms".to_owned(),
        Column::End => return "(t.request_time + COALESCE(t.duration_ms, 0))".to_owned(),
        Column::Experiment => return "t.experiment_id".to_owned(),
        Column::Name => ("trace_tags", NAME_KEY),
        Column::Run => ("trace_metadata", RUN_KEY),
    };
    let key = sql.bind(key);
    format!("(SELECT p.value FROM {table} p WHERE p.trace_id = t.trace_id AND p.key = {key})")
}
