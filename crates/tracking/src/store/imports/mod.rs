//! Whole lists of rows of another server, written beside what is here: a file per noun, over what
//! they all need.

mod evaluation;
mod experiments;
mod logged_models;
mod pairs;
mod runs;
mod traces;

use std::collections::{HashMap, HashSet};

use db::{Conn, Error, Value, query};

use super::{Texts, rows_of_values};

pub(crate) use evaluation::{dataset_uses, evaluation_datasets, records, scorers, trace_links};
pub(crate) use experiments::{experiment, experiments_like, is_unused_default};
pub(crate) use logged_models::{logged_models, model_links, model_metrics};
pub(crate) use pairs::pairs;
pub(crate) use runs::{datasets, inputs, metrics, runs};
pub(crate) use traces::{assessments, spans, traces};

/// Rows of one INSERT.
const ROWS: usize = 500;

/// Adds the rows that are not there yet, and tells how many.
pub(super) async fn insert_new(
    conn: &mut Conn,
    table: &str,
    columns: &[&str],
    rows: Vec<Vec<Value>>,
) -> Result<u64, Error> {
    let mut new = 0;
    for chunk in rows.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO {table} ({}) VALUES {} ON CONFLICT DO NOTHING",
            columns.join(", "),
            rows_of_values(conn.backend(), chunk.len(), columns.len())
        );
        let values = chunk.iter().flatten().cloned();
        new += query(sql).bind_all(values).execute(conn).await?;
    }
    Ok(new)
}

/// Which of these ids a table has.
pub(super) async fn present<'i>(
    conn: &mut Conn,
    table: &str,
    column: &str,
    ids: impl IntoIterator<Item = &'i str>,
) -> Result<HashSet<String>, Error> {
    let ids = Texts::of(ids);
    let among = ids.select(conn.backend(), 1);
    let text = format!("CAST({column} AS TEXT)");
    let sql = match column {
        "experiment_id" => format!("SELECT {text} FROM {table} WHERE {text} IN ({among})"),
        _ => format!("SELECT {column} FROM {table} WHERE {column} IN ({among})"),
    };
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The numbers of the runs with these ids.
pub(super) async fn run_numbers<'i>(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = &'i str>,
) -> Result<HashMap<String, i64>, Error> {
    let ids = Texts::of(ids);
    let among = ids.select(conn.backend(), 1);
    let sql = format!("SELECT run_id, run FROM runs WHERE run_id IN ({among})");
    let rows = query(sql).bind(ids.text()).fetch_all(conn).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The number that an id of an experiment is.
pub(super) fn number(experiment_id: &str) -> Value {
    experiment_id
        .parse::<i64>()
        .expect("an experiment's id is made from a number")
        .into()
}
