//! What the words of a search for evaluation datasets mean.

use super::runs::{Text, clauses, is_numeric, shown};
use crate::error::Error;
use crate::evaluation_dataset::EvaluationDataset;
use crate::filter::{Clause, Op, Operand, parse_order};
use crate::page::Page;
use crate::store::evaluation_datasets;
use crate::{Tracking, experiment};

/// The results of a page without a wish, and the most.
const DEFAULT_RESULTS: i64 = 1_000;
const MAX_RESULTS: i64 = 50_000;

/// A search for evaluation datasets, as a client writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct EvaluationDatasetSearch {
    /// None: of all experiments.
    pub(crate) experiment_ids: Vec<String>,
    pub(crate) filter: String,
    pub(crate) order_by: Vec<String>,
    pub(crate) max_results: Option<i64>,
    pub(crate) page_token: Option<String>,
}

/// What datasets are compared and sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Name,
    CreatedBy,
    LastUpdatedBy,
    Created,
    LastUpdate,
}

/// A condition on a dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Text(Column, Text),
    Time(Column, Op, f64),
    Tag(String, Text),
}

/// A search that holds nothing wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) experiments: Option<Vec<i64>>,
    pub(crate) conditions: Vec<Condition>,
    /// Each column, and whether it goes up.
    pub(crate) order: Vec<(Column, bool)>,
    pub(crate) page: Page,
}

impl EvaluationDatasetSearch {
    fn plan(&self) -> Result<Plan, Error> {
        let limit = self.max_results.unwrap_or(DEFAULT_RESULTS);
        if !(1..=MAX_RESULTS).contains(&limit) {
            let reason = format!("It must be at least 1 and at most {MAX_RESULTS}");
            return Err(Error::field("max_results", limit.to_string(), reason));
        }
        let ids = self
            .experiment_ids
            .iter()
            .map(|id| experiment::parse_id(id));
        let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
        let order = self.order_by.iter().map(|clause| sort_key(clause));
        let order: Vec<(Column, bool)> = order.collect::<Result<_, _>>()?;
        let conditions = clauses(&self.filter)?.into_iter().map(condition);
        Ok(Plan {
            experiments: Some(ids).filter(|ids| !ids.is_empty()),
            conditions: conditions.collect::<Result<_, _>>()?,
            order: if order.is_empty() {
                vec![(Column::Created, false)]
            } else {
                order
            },
            page: Page::new(self.page_token.as_deref(), limit)?,
        })
    }
}

impl Tracking {
    /// The evaluation datasets that a search finds, and the next page's token.
    pub(crate) async fn search_evaluation_datasets(
        &self,
        search: &EvaluationDatasetSearch,
    ) -> Result<(Vec<EvaluationDataset>, Option<String>), Error> {
        let plan = search.plan()?;
        let mut conn = self.db.acquire().await?;
        let mut found = evaluation_datasets::search(&mut conn, &plan).await?;
        let token = plan.page.cut(&mut found);
        evaluation_datasets::add_parts(&mut conn, &mut found).await?;
        Ok((found, token))
    }
}

fn column(key: &str) -> Result<Column, Error> {
    Ok(match key {
        "name" => Column::Name,
        "created_by" => Column::CreatedBy,
        "last_updated_by" => Column::LastUpdatedBy,
        "created_time" => Column::Created,
        "last_update_time" => Column::LastUpdate,
        _ => {
            return Err(Error::Invalid(format!(
                "Invalid attribute key '{key}' specified. Valid keys are 'name', 'created_by', 'last_updated_by', 'created_time', 'last_update_time'"
            )));
        }
    })
}

fn condition(clause: Clause) -> Result<Condition, Error> {
    match clause.prefix.as_deref() {
        Some("tag" | "tags") => {
            let key = clause.key.clone();
            Ok(Condition::Tag(key, text(clause, false)?))
        }
        None | Some("attribute" | "attributes" | "attr") => match column(&clause.key)? {
            column @ (Column::Created | Column::LastUpdate) => match (clause.op, clause.value) {
                (op, Operand::Number(value)) if is_numeric(op) => {
                    Ok(Condition::Time(column, op, value))
                }
                _ => Err(Error::Invalid(format!(
                    "'{}' is compared with a number by '=', '!=', '<', '<=', '>' or '>='",
                    clause.key
                ))),
            },
            column => Ok(Condition::Text(
                column,
                text(clause, column == Column::Name)?,
            )),
        },
        Some(other) => Err(Error::Invalid(format!(
            "Invalid identifier token '{other}' specified: datasets are found by their attributes and by 'tags.KEY'"
        ))),
    }
}

/// Reads a comparison of a text; some columns take lists too.
fn text(clause: Clause, lists: bool) -> Result<Text, Error> {
    let Clause {
        op: operator,
        value,
        ..
    } = clause;
    match (operator, value) {
        (Op::Eq | Op::Ne | Op::Like | Op::Ilike, value @ Operand::Text(_)) => {
            Ok(Text { operator, value })
        }
        (Op::In, value @ Operand::List(_)) if lists => Ok(Text { operator, value }),
        (Op::Eq | Op::Ne | Op::Like | Op::Ilike, other) => Err(Error::Invalid(format!(
            "Expected a quoted string value (e.g. 'my-value'). Got value {}",
            shown(&other)
        ))),
        (operator, _) => Err(Error::Invalid(format!(
            "Invalid comparator '{}' not one of '=', '!=', 'LIKE', 'ILIKE'",
            operator.as_str()
        ))),
    }
}

fn sort_key(clause: &str) -> Result<(Column, bool), Error> {
    let order = parse_order(clause)?;
    let attribute = matches!(
        order.prefix.as_deref(),
        None | Some("attribute" | "attributes" | "attr")
    );
    let column = column(&order.key).ok().filter(|_| attribute);
    match column {
        Some(column @ (Column::Name | Column::Created | Column::LastUpdate)) => {
            Ok((column, order.ascending))
        }
        _ => Err(Error::Invalid(format!(
            "Invalid order_by clause '{clause}': datasets are ordered by name, created_time or last_update_time"
        ))),
    }
}
