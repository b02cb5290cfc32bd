//! Searches for traces.

use db::{Conn, Error};

use crate::filter::{Op, Operand};
use crate::search::runs::Text;
use crate::search::traces::{Column, Condition, Plan};
use crate::store::statement::Statement;
use crate::store::{Ids, traces};
use crate::trace::Trace;

/// The traces of a page, and one more if there is one; without metadata and tags.
pub(crate) async fn traces(conn: &mut Conn, plan: &Plan) -> Result<Vec<Trace>, Error> {
    let ids = Ids::of(plan.experiments.iter().copied());
    let start = format!(
        "SELECT {} FROM traces t WHERE t.experiment_id IN ({})",
        traces::COLUMNS,
        ids.select(conn.backend(), 1)
    );
    let mut sql = Statement::new(conn.backend(), &start);
    sql.bind(ids.text());
    for condition in &plan.conditions {
        sql.push(" AND ");
        match condition {
            Condition::Id(is) => sql.push_text("t.trace_id", is.operator, &is.value),
            Condition::State(is) => sql.push_text("t.state", is.operator, &is.value),
            Condition::Tag { key, is } => push_pair(&mut sql, "trace_tags", key, is),
            Condition::Metadata { key, is } => push_pair(&mut sql, "trace_metadata", key, is),
            Condition::Number { column, op, value } => {
                sql.push_number(name(*column), *op, *value);
            }
        }
    }
    sql.push(" ORDER BY ");
    for (column, descending) in &plan.order {
        let direction = if *descending { "DESC" } else { "ASC" };
        let column = name(*column);
        sql.push(&format!("{column} IS NULL, {column} {direction}, "));
    }
    let limit = sql.bind(plan.page.lookahead());
    let offset = sql.bind(plan.page.offset);
    sql.push(&format!(
        "t.request_time DESC, t.trace_id LIMIT {limit} OFFSET {offset}"
    ));
    let rows = sql.fetch_all(conn).await?;
    Ok(rows.iter().map(traces::read).collect())
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

fn name(column: Column) -> &'static str {
    match column {
        Column::Id => "t.trace_id",
        Column::State => "t.state",
        Column::Time => "t.request_time",
        Column::Duration => "t.duration_ms",
    }
}
