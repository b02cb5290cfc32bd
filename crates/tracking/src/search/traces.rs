//! What the words of a trace search mean.

use super::runs::{Text, clauses, is_numeric};
use crate::error::Error;
use crate::experiment;
use crate::filter::{Clause, Op, Operand, parse_order};
use crate::page::Page;

/// The most results of one page.
const MAX_RESULTS: i64 = 500;

/// A search for traces, as a client writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceSearch {
    pub(crate) experiment_ids: Vec<String>,
    pub(crate) filter: String,
    pub(crate) order_by: Vec<String>,
    pub(crate) page_token: Option<String>,
    /// At most 500; absent: 100.
    pub(crate) max_results: Option<i64>,
}

/// A condition on a trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Id(Text),
    State(Text),
    Tag { key: String, is: Text },
    Metadata { key: String, is: Text },
    Number { column: Column, op: Op, value: f64 },
}

/// What traces are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    State,
    Time,
    Duration,
}

/// A search that holds nothing wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) experiments: Vec<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) order: Vec<(Column, bool)>,
    pub(crate) page: Page,
}

impl TraceSearch {
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        let limit = self.max_results.unwrap_or(100);
        if !(1..=MAX_RESULTS).contains(&limit) {
            return Err(Error::field(
                "max_results",
                limit.to_string(),
                format!("It must be at least 1 and at most {MAX_RESULTS}"),
            ));
        }
        let experiments = self.experiment_ids.iter();
        let conditions = clauses(&self.filter)?.into_iter().map(condition);
        let order = self.order_by.iter().map(|clause| sort_key(clause));
        Ok(Plan {
            experiments: experiments
                .filter_map(|id| experiment::parse_id(id).ok())
                .collect(),
            conditions: conditions.collect::<Result<_, _>>()?,
            order: order.collect::<Result<_, _>>()?,
            page: Page::new(self.page_token.as_deref(), limit)?,
        })
    }
}

fn column(key: &str) -> Option<Column> {
    Some(match key {
        "request_id" | "trace_id" => Column::Id,
        "status" | "state" => Column::State,
        "timestamp" | "timestamp_ms" | "request_time" => Column::Time,
        "execution_time" | "execution_time_ms" | "execution_duration" => Column::Duration,
        _ => return None,
    })
}

fn condition(clause: Clause) -> Result<Condition, Error> {
    let Clause {
        prefix,
        key,
        op,
        value,
    } = clause;
    match prefix.as_deref() {
        Some("tag" | "tags") => Ok(Condition::Tag {
            key,
            is: text(op, value)?,
        }),
        Some("metadata" | "request_metadata") => Ok(Condition::Metadata {
            key,
            is: text(op, value)?,
        }),
        None | Some("attribute" | "attributes" | "attr" | "trace") => match key.as_str() {
            "name" => Ok(Condition::Tag {
                key: "mlflow.traceName".to_owned(),
                is: text(op, value)?,
            }),
            "run_id" => Ok(Condition::Metadata {
                key: "mlflow.sourceRun".to_owned(),
                is: text(op, value)?,
            }),
            _ => match (column(&key), value) {
                (Some(Column::Id), value) => Ok(Condition::Id(text(op, value)?)),
                (Some(Column::State), value) => Ok(Condition::State(text(op, value)?)),
                (Some(column), Operand::Number(value)) if is_numeric(op) => {
                    Ok(Condition::Number { column, op, value })
                }
                (Some(_), _) => Err(Error::Invalid(format!(
                    "'{key}' is compared with a number by '=', '!=', '<', '<=', '>' or '>='"
                ))),
                (None, _) => Err(Error::Invalid(format!(
                    "Invalid attribute key '{key}' specified. Valid keys are 'trace_id', 'state', 'timestamp_ms', 'execution_time_ms', 'name', 'run_id'"
                ))),
            },
        },
        Some(other) => Err(Error::Invalid(format!(
            "Invalid entity type '{other}'. Valid values are ['tag', 'metadata', 'attribute']"
        ))),
    }
}

fn text(op: Op, value: Operand) -> Result<Text, Error> {
    let fits = matches!(
        (op, &value),
        (Op::Eq | Op::Ne | Op::Like | Op::Ilike, Operand::Text(_))
            | (Op::In | Op::NotIn, Operand::List(_))
            | (Op::IsNull | Op::IsNotNull, _)
    );
    if !fits {
        return Err(Error::Invalid(format!(
            "Invalid comparator '{}': a quoted text is compared by '=', '!=', 'LIKE', 'ILIKE' or 'IN'",
            op.as_str()
        )));
    }
    Ok(Text {
        operator: op,
        value,
    })
}

fn sort_key(clause: &str) -> Result<(Column, bool), Error> {
    let order = parse_order(clause)?;
    let attribute = matches!(
        order.prefix.as_deref(),
        None | Some("attribute" | "attributes" | "attr" | "trace")
    );
    match column(&order.key).filter(|_| attribute) {
        Some(column) => Ok((column, !order.ascending)),
        None => Err(Error::Invalid(format!(
            "Invalid order_by clause '{clause}': traces are ordered by timestamp_ms, execution_time_ms, state or trace_id"
        ))),
    }
}
