//! What the words of a trace search mean.

use super::assessments::{self, Judged, Kind};
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
    Tag {
        key: String,
        is: Text,
    },
    Metadata {
        key: String,
        is: Text,
    },
    Number {
        column: Column,
        op: Op,
        value: f64,
    },
    ClientRequest(Text),
    /// Made in this run, or linked to it.
    Run(String),
    /// Used this prompt version, `NAME/VERSION`.
    Prompt(String),
    /// One of its spans fits all of these.
    Span(Vec<OfSpan>),
    /// A valid assessment of this kind and name, of the trace or of its session.
    Assessment {
        kind: Kind,
        name: String,
        is: Judged,
    },
    /// Somebody has linked it to this issue.
    Issue(String),
}

/// A condition on a span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OfSpan {
    Name(Text),
    Type(Text),
    Status(Text),
    /// Anything in it.
    Content(Text),
    Attribute {
        key: String,
        is: Text,
    },
}

/// What traces are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    State,
    Time,
    Duration,
    End,
    Experiment,
    Name,
    Run,
}

/// Where a trace's run stands in its metadata.
pub(crate) const RUN_KEY: &str = "mlflow.sourceRun";

/// Where a trace's name stands in its tags.
pub(crate) const NAME_KEY: &str = "mlflow.traceName";

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
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let order = self.order_by.iter().map(|clause| sort_key(clause));
        Ok(Plan {
            experiments: experiments
                .filter_map(|id| experiment::parse_id(id).ok())
                .collect(),
            conditions: of_one_span(conditions),
            order: order.collect::<Result<_, _>>()?,
            page: Page::new(self.page_token.as_deref(), limit)?,
        })
    }
}

impl Plan {
    /// Whether it looks into spans.
    pub(crate) fn reads_spans(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.any(|condition| matches!(condition, Condition::Span(_)))
    }
}

/// What is asked of spans is asked of one and the same span.
fn of_one_span(conditions: Vec<Condition>) -> Vec<Condition> {
    let (mut of_trace, mut of_span) = (Vec::new(), Vec::new());
    for condition in conditions {
        match condition {
            Condition::Span(more) => of_span.extend(more),
            other => of_trace.push(other),
        }
    }
    if !of_span.is_empty() {
        of_trace.push(Condition::Span(of_span));
    }
    of_trace
}

fn column(key: &str) -> Option<Column> {
    Some(match key {
        "request_id" | "trace_id" => Column::Id,
        "status" | "state" => Column::State,
        "timestamp" | "timestamp_ms" | "request_time" => Column::Time,
        "end_time" | "end_time_ms" => Column::End,
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
        Some("metadata" | "request_metadata") => metadata(key, op, value),
        Some("span") => match key.strip_prefix("attributes.") {
            Some(key) => span_attribute(key.to_owned(), op, value),
            None => span(&key, op, value),
        },
        // As it reads when the attribute's name stands in quotes.
        Some("span.attributes") => span_attribute(key, op, value),
        None | Some("attribute" | "attributes" | "attr" | "trace") => match key.as_str() {
            "name" => Ok(Condition::Tag {
                key: NAME_KEY.to_owned(),
                is: text(op, value)?,
            }),
            "run_id" => metadata(RUN_KEY.to_owned(), op, value),
            "client_request_id" => Ok(Condition::ClientRequest(text(op, value)?)),
            "prompt" => prompt(op, value),
            "text" => span("content", op, value),
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
                    "Invalid attribute key '{key}' specified. Valid keys are 'trace_id', 'state', 'timestamp_ms', 'execution_time_ms', 'end_time_ms', 'client_request_id', 'name', 'run_id', 'prompt', 'text'"
                ))),
            },
        },
        Some("feedback") => assessments::condition(Kind::Feedback, key, op, value),
        Some("expectation") => assessments::condition(Kind::Expectation, key, op, value),
        Some("issue") => assessments::issue(&key, op, value),
        Some(other) => Err(Error::Invalid(format!(
            "Invalid entity type '{other}'. Valid values are ['tag', 'metadata', 'attribute', 'span', 'feedback', 'expectation', 'issue']"
        ))),
    }
}

fn metadata(key: String, op: Op, value: Operand) -> Result<Condition, Error> {
    if key == RUN_KEY
        && op == Op::Eq
        && let Operand::Text(run_id) = value
    {
        return Ok(Condition::Run(run_id));
    }
    let is = text(op, value)?;
    Ok(Condition::Metadata { key, is })
}

fn prompt(op: Op, value: Operand) -> Result<Condition, Error> {
    match (op, value) {
        (Op::Eq, Operand::Text(version)) if version.matches('/').count() == 1 => {
            Ok(Condition::Prompt(version))
        }
        _ => Err(Error::Invalid(
            "Invalid prompts filter. Only '=' is supported with format: prompt = \"name/version\""
                .to_owned(),
        )),
    }
}

fn span(key: &str, op: Op, value: Operand) -> Result<Condition, Error> {
    let is = span_text(op, value)?;
    let of_span = match key {
        "name" => OfSpan::Name(is),
        "type" => OfSpan::Type(is),
        "status" => OfSpan::Status(is),
        "content" if matches!(op, Op::Like | Op::Ilike) => OfSpan::Content(is),
        "content" => {
            return Err(Error::Invalid(format!(
                "span.content comparator '{}' not one of 'LIKE', 'ILIKE'",
                op.as_str()
            )));
        }
        other => {
            return Err(Error::Invalid(format!(
                "Invalid span attribute '{other}'. Supported attributes: name, status, type, content, attributes.<attribute_name>."
            )));
        }
    };
    Ok(Condition::Span(vec![of_span]))
}

fn span_attribute(key: String, op: Op, value: Operand) -> Result<Condition, Error> {
    if key.is_empty() {
        return Err(Error::Invalid(
            "Span attribute name cannot be empty after 'attributes.'".to_owned(),
        ));
    }
    let is = span_text(op, value)?;
    Ok(Condition::Span(vec![OfSpan::Attribute { key, is }]))
}

fn span_text(op: Op, value: Operand) -> Result<Text, Error> {
    match op {
        Op::IsNull | Op::IsNotNull => Err(Error::Invalid(format!(
            "Invalid comparator '{}' of a span: a quoted text is compared by '=', '!=', 'LIKE', 'ILIKE', 'RLIKE' or 'IN'",
            op.as_str()
        ))),
        _ => text(op, value),
    }
}

pub(super) fn text(op: Op, value: Operand) -> Result<Text, Error> {
    match (op, &value) {
        (Op::Rlike, Operand::Text(pattern)) => check_pattern(pattern)?,
        (Op::Eq | Op::Ne | Op::Like | Op::Ilike, Operand::Text(_))
        | (Op::In | Op::NotIn, Operand::List(_))
        | (Op::IsNull | Op::IsNotNull, _) => {}
        _ => {
            return Err(Error::Invalid(format!(
                "Invalid comparator '{}': a quoted text is compared by '=', '!=', 'LIKE', 'ILIKE', 'RLIKE' or 'IN'",
                op.as_str()
            )));
        }
    }
    Ok(Text {
        operator: op,
        value,
    })
}

/// SQLite knows patterns by the library that looks at them here; PostgreSQL has its own, which may
/// refuse one still.
fn check_pattern(pattern: &str) -> Result<(), Error> {
    match db::check_pattern(pattern) {
        Ok(()) => Ok(()),
        Err(reason) => Err(Error::Invalid(format!(
            "Invalid pattern {pattern:?} of RLIKE: {reason}"
        ))),
    }
}

fn sort_key(clause: &str) -> Result<(Column, bool), Error> {
    let order = parse_order(clause)?;
    let attribute = matches!(
        order.prefix.as_deref(),
        None | Some("attribute" | "attributes" | "attr" | "trace")
    );
    let column = match order.key.as_str() {
        "experiment_id" => Some(Column::Experiment),
        "name" => Some(Column::Name),
        "run_id" => Some(Column::Run),
        key => column(key),
    };
    match column.filter(|_| attribute) {
        Some(column) => Ok((column, !order.ascending)),
        None => Err(Error::Invalid(format!(
            "Invalid order_by clause '{clause}': traces are ordered by timestamp_ms, execution_time_ms, end_time_ms, state, trace_id, experiment_id, name or run_id"
        ))),
    }
}
