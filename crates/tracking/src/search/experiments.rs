//! What the words of an experiment search mean.

use super::runs::{Text, View, clauses, is_numeric, shown};
use crate::Tracking;
use crate::error::Error;
use crate::experiment::Experiment;
use crate::filter::{Clause, Op, Operand, parse_order};
use crate::page::Page;
use crate::store::{experiments, search};

/// The most results of one page (`MAX_EXPERIMENTS_LISTED_PER_PAGE`).
const MAX_RESULTS: i64 = 50_000;

/// A search for experiments, as a client writes it.
#[derive(Debug, Clone, Default)]
pub struct ExperimentSearch {
    pub filter: String,
    pub order_by: Vec<String>,
    pub view: View,
    pub page_token: Option<String>,
    /// From 1 to 50,000; MLflow has no default.
    pub max_results: i64,
}

/// A condition on an experiment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Name(Text),
    Id(Text),
    Time {
        column: Column,
        operator: Op,
        value: f64,
    },
    Tag {
        key: String,
        is: Text,
    },
}

/// What experiments are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    Name,
    Creation,
    LastUpdate,
    Lifecycle,
}

/// A search that holds nothing wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) view: View,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) order: Vec<(Column, bool)>,
    pub(crate) page: Page,
}

impl ExperimentSearch {
    fn plan(&self) -> Result<Plan, Error> {
        if !(1..=MAX_RESULTS).contains(&self.max_results) {
            return Err(Error::field(
                "max_results",
                self.max_results.to_string(),
                format!("It must be at least 1 and at most {MAX_RESULTS}"),
            ));
        }
        let order = self.order_by.iter().map(|clause| sort_key(clause));
        let order = order.collect::<Result<Vec<_>, _>>()?;
        Ok(Plan {
            view: self.view,
            conditions: clauses(&self.filter)?
                .into_iter()
                .map(condition)
                .collect::<Result<_, _>>()?,
            order: if order.is_empty() {
                vec![(Column::Creation, true)]
            } else {
                order
            },
            page: Page::new(self.page_token.as_deref(), self.max_results)?,
        })
    }
}

impl Tracking {
    /// The experiments that a search finds, and the next page's token.
    pub async fn search_experiments(
        &self,
        search: &ExperimentSearch,
    ) -> Result<(Vec<Experiment>, Option<String>), Error> {
        let plan = search.plan()?;
        let mut conn = self.db.acquire().await?;
        let mut found = search::experiments(&mut conn, &plan).await?;
        let token = plan.page.cut(&mut found);
        experiments::add_tags(&mut conn, &mut found).await?;
        Ok((found, token))
    }
}

fn column(key: &str) -> Option<Column> {
    Some(match key {
        "experiment_id" => Column::Id,
        "name" => Column::Name,
        "creation_time" => Column::Creation,
        "last_update_time" => Column::LastUpdate,
        "lifecycle_stage" => Column::Lifecycle,
        _ => return None,
    })
}

fn condition(clause: Clause) -> Result<Condition, Error> {
    let Clause {
        prefix,
        key,
        op: operator,
        value,
    } = clause;
    match prefix.as_deref() {
        Some("tag" | "tags") => {
            let is = match operator {
                Op::IsNull | Op::IsNotNull => Text { operator, value },
                _ => text(operator, value)?,
            };
            Ok(Condition::Tag { key, is })
        }
        None | Some("attribute" | "attributes" | "attr") => match column(&key) {
            Some(Column::Name) => Ok(Condition::Name(text(operator, value)?)),
            Some(Column::Id) => Ok(Condition::Id(id(operator, value)?)),
            Some(column @ (Column::Creation | Column::LastUpdate)) => {
                let (true, Operand::Number(value)) = (is_numeric(operator), value) else {
                    return Err(Error::Invalid(format!(
                        "'{key}' is compared with a number by '=', '!=', '<', '<=', '>' or '>='"
                    )));
                };
                Ok(Condition::Time {
                    column,
                    operator,
                    value,
                })
            }
            _ => Err(Error::Invalid(format!(
                "Invalid attribute key '{key}' specified. Valid keys are 'name', 'experiment_id', 'creation_time', 'last_update_time'"
            ))),
        },
        Some(other) => Err(Error::Invalid(format!(
            "Invalid entity type '{other}'. Valid values are ['tag', 'attribute']"
        ))),
    }
}

fn id(operator: Op, value: Operand) -> Result<Text, Error> {
    match (operator, value) {
        (Op::In | Op::NotIn, value @ Operand::List(_)) => Ok(Text { operator, value }),
        (operator, value) => text(operator, value),
    }
}

fn text(operator: Op, value: Operand) -> Result<Text, Error> {
    let fits = matches!(operator, Op::Eq | Op::Ne | Op::Like | Op::Ilike);
    match (fits, value) {
        (true, value @ Operand::Text(_)) => Ok(Text { operator, value }),
        (false, _) => Err(Error::Invalid(format!(
            "Invalid comparator '{}' not one of '=', '!=', 'LIKE', 'ILIKE'",
            operator.as_str()
        ))),
        (true, other) => Err(Error::Invalid(format!(
            "Expected a quoted string value (e.g. 'my-value'). Got value {}",
            shown(&other)
        ))),
    }
}

fn sort_key(clause: &str) -> Result<(Column, bool), Error> {
    let order = parse_order(clause)?;
    let attribute = matches!(
        order.prefix.as_deref(),
        None | Some("attribute" | "attributes" | "attr")
    );
    match column(&order.key).filter(|_| attribute) {
        Some(column) => Ok((column, !order.ascending)),
        None => Err(Error::Invalid(format!(
            "Invalid order_by clause '{clause}': experiments are ordered by experiment_id, name, creation_time, last_update_time or lifecycle_stage"
        ))),
    }
}
