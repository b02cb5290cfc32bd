//! What the words of a run search mean.

use crate::Tracking;
use crate::error::Error;
use crate::experiment;
use crate::filter::{Clause, Op, Operand, OrderKey, parse_filter, parse_order};
use crate::page::Page;
use crate::record::RunRecord;
use crate::run::Run;
use crate::store::{records, search};

/// The most results of one page (`SEARCH_MAX_RESULTS_THRESHOLD`).
const MAX_RESULTS: i64 = 50_000;

/// More keys to sort by than this are refused.
const MAX_ORDERS: usize = 20;

/// More clauses than this in a filter are refused: SQLite's expressions have a greatest depth.
const MAX_CLAUSES: usize = 100;

/// Which lifecycle stages a search shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    #[default]
    Active,
    Deleted,
    All,
}

/// A search for runs, as a client writes it.
#[derive(Debug, Clone, Default)]
pub struct RunSearch {
    pub experiment_ids: Vec<String>,
    pub filter: String,
    pub order_by: Vec<String>,
    pub view: View,
    pub page_token: Option<String>,
    /// At most 50,000; absent: 1,000.
    pub max_results: Option<i64>,
}

/// A condition on a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Metric {
        key: String,
        operator: Op,
        value: f64,
    },
    Param {
        key: String,
        is: Text,
    },
    Tag {
        key: String,
        is: Text,
    },
    TextAttribute {
        attribute: TextAttribute,
        is: Text,
    },
    TimeAttribute {
        attribute: TimeAttribute,
        operator: Op,
        value: f64,
    },
    Dataset {
        part: DatasetPart,
        is: Text,
    },
}

/// A comparison of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub(crate) operator: Op,
    pub(crate) value: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextAttribute {
    RunId,
    Name,
    Status,
    ArtifactUri,
    UserId,
    Lifecycle,
    Experiment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeAttribute {
    Start,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatasetPart {
    Name,
    Digest,
    Context,
}

/// A key to sort runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SortKey {
    Metric(String),
    Param(String),
    Tag(String),
    Text(TextAttribute),
    Time(TimeAttribute),
}

/// A search that holds nothing wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) experiments: Vec<i64>,
    pub(crate) view: View,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) order: Vec<(SortKey, bool)>,
    pub(crate) page: Page,
}

/// A page of runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundRuns {
    /// With all that they logged.
    pub(crate) first: Vec<RunRecord>,
    /// Those behind the first.
    pub(crate) rest: Vec<Run>,
    /// Where the next page begins.
    pub(crate) token: Option<String>,
}

impl RunSearch {
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        let limit = self.max_results.unwrap_or(1_000);
        if !(1..=MAX_RESULTS).contains(&limit) {
            return Err(Error::field(
                "max_results",
                limit.to_string(),
                format!("It must be at least 1 and at most {MAX_RESULTS}"),
            ));
        }
        if self.order_by.len() > MAX_ORDERS {
            return Err(Error::Invalid(format!(
                "order_by has at most {MAX_ORDERS} clauses"
            )));
        }
        // Ids that no experiment can have find nothing, as with MLflow.
        let experiments = self.experiment_ids.iter();
        let experiments = experiments.filter_map(|id| experiment::parse_id(id).ok());
        Ok(Plan {
            experiments: experiments.collect(),
            view: self.view,
            conditions: clauses(&self.filter)?
                .into_iter()
                .map(condition)
                .collect::<Result<_, _>>()?,
            order: sort_keys(&self.order_by)?,
            page: Page::new(self.page_token.as_deref(), limit)?,
        })
    }
}

impl Tracking {
    /// The runs that a search finds, the first `most` of them with what they logged.
    pub(crate) async fn search_runs(
        &self,
        search: &RunSearch,
        most: usize,
    ) -> Result<FoundRuns, Error> {
        let plan = search.plan()?;
        if plan.experiments.is_empty() {
            return Ok(FoundRuns::default());
        }
        let mut conn = self.db.acquire().await?;
        let mut runs = search::runs(&mut conn, &plan).await?;
        let token = plan.page.cut(&mut runs);
        let rest = runs.split_off(most.min(runs.len()));
        let mut first: Vec<_> = runs.into_iter().map(RunRecord::empty).collect();
        records::fill(&mut conn, &mut first).await?;
        Ok(FoundRuns { first, rest, token })
    }
}

/// Reads a filter of a sensible length.
pub(super) fn clauses(filter: &str) -> Result<Vec<Clause>, Error> {
    let clauses = parse_filter(filter)?;
    if clauses.len() > MAX_CLAUSES {
        return Err(Error::Invalid(format!(
            "a filter has at most {MAX_CLAUSES} clauses"
        )));
    }
    Ok(clauses)
}

enum Entity {
    Metric,
    Param,
    Tag,
    Attribute,
    Dataset,
}

fn entity(name: Option<&str>) -> Result<Entity, Error> {
    Ok(match name {
        Some("metric" | "metrics") => Entity::Metric,
        Some("param" | "params" | "parameter" | "parameters") => Entity::Param,
        Some("tag" | "tags") => Entity::Tag,
        None | Some("attribute" | "attributes" | "attr" | "run") => Entity::Attribute,
        Some("dataset" | "datasets") => Entity::Dataset,
        Some(other) => {
            return Err(Error::Invalid(format!(
                "Invalid entity type '{other}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"
            )));
        }
    })
}

enum Attribute {
    Text(TextAttribute),
    Time(TimeAttribute),
}

fn attribute(key: &str) -> Option<Attribute> {
    Some(match key {
        "run_id" => Attribute::Text(TextAttribute::RunId),
        "run_name" | "run name" | "Run name" | "Run Name" => Attribute::Text(TextAttribute::Name),
        "status" => Attribute::Text(TextAttribute::Status),
        "artifact_uri" => Attribute::Text(TextAttribute::ArtifactUri),
        "user_id" => Attribute::Text(TextAttribute::UserId),
        "start_time" | "created" | "Created" => Attribute::Time(TimeAttribute::Start),
        "end_time" => Attribute::Time(TimeAttribute::End),
        _ => return None,
    })
}

fn unknown_attribute(key: &str) -> Error {
    Error::Invalid(format!(
        "Invalid attribute key '{key}' specified. Valid keys are 'run_id', 'run_name', 'status', 'artifact_uri', 'user_id', 'start_time', 'end_time', 'created'; params, metrics and tags need their prefix: metrics.{key}"
    ))
}

fn condition(clause: Clause) -> Result<Condition, Error> {
    let Clause {
        prefix,
        key,
        op: operator,
        value,
    } = clause;
    match entity(prefix.as_deref())? {
        Entity::Metric => {
            let value = number(operator, value, "metric")?;
            Ok(Condition::Metric {
                key,
                operator,
                value,
            })
        }
        Entity::Param => {
            let is = text(operator, value, "param", Allowed::Presence)?;
            Ok(Condition::Param { key, is })
        }
        Entity::Tag => {
            let is = text(operator, value, "tag", Allowed::Presence)?;
            Ok(Condition::Tag { key, is })
        }
        Entity::Dataset => {
            let part = dataset_part(&key)?;
            let is = text(operator, value, "dataset attributes", Allowed::List)?;
            Ok(Condition::Dataset { part, is })
        }
        Entity::Attribute => match attribute(&key).ok_or_else(|| unknown_attribute(&key))? {
            Attribute::Time(attribute) => {
                let value = number(operator, value, "numeric attribute")?;
                Ok(Condition::TimeAttribute {
                    attribute,
                    operator,
                    value,
                })
            }
            Attribute::Text(attribute) => {
                let is = text(operator, value, "attributes", Allowed::List)?;
                if matches!(is.value, Operand::List(_)) && attribute != TextAttribute::RunId {
                    return Err(Error::Invalid(
                        "Only ['run_id'] attributes support comparison with a list of quoted string values."
                            .to_owned(),
                    ));
                }
                Ok(Condition::TextAttribute { attribute, is })
            }
        },
    }
}

fn dataset_part(key: &str) -> Result<DatasetPart, Error> {
    match key {
        "name" => Ok(DatasetPart::Name),
        "digest" => Ok(DatasetPart::Digest),
        "context" => Ok(DatasetPart::Context),
        _ => Err(Error::Invalid(format!(
            "Invalid dataset key '{key}' specified. Valid keys are 'name', 'digest', 'context'"
        ))),
    }
}

/// What a text may be compared by, besides `= != LIKE ILIKE`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// IS NULL, IS NOT NULL.
    Presence,
    /// IN, NOT IN.
    List,
}

pub(super) fn is_numeric(operator: Op) -> bool {
    matches!(
        operator,
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge
    )
}

fn number(operator: Op, value: Operand, what: &str) -> Result<f64, Error> {
    if !is_numeric(operator) {
        let presence = matches!(operator, Op::IsNull | Op::IsNotNull);
        return Err(Error::Invalid(if presence {
            format!("IS NULL / IS NOT NULL is only supported for tags and params, not for '{what}'")
        } else {
            invalid_operator(operator, "'=', '!=', '<', '<=', '>', '>='")
        }));
    }
    match value {
        Operand::Number(value) => Ok(value),
        other => Err(Error::Invalid(format!(
            "Expected numeric value type for {what}. Found {}",
            shown(&other)
        ))),
    }
}

fn text(operator: Op, value: Operand, what: &str, allowed: Allowed) -> Result<Text, Error> {
    let fits = match operator {
        Op::Eq | Op::Ne | Op::Like | Op::Ilike => true,
        Op::IsNull | Op::IsNotNull => allowed == Allowed::Presence,
        Op::In | Op::NotIn => allowed == Allowed::List,
        _ => false,
    };
    if !fits {
        return Err(Error::Invalid(invalid_operator(
            operator,
            match allowed {
                Allowed::Presence => "'=', '!=', 'LIKE', 'ILIKE', 'IS NULL', 'IS NOT NULL'",
                Allowed::List => "'=', '!=', 'LIKE', 'ILIKE', 'IN', 'NOT IN'",
            },
        )));
    }
    if let Operand::Number(number) = value {
        return Err(Error::Invalid(format!(
            "Expected a quoted string value for {what} (e.g. 'my-value'). Got value {number}"
        )));
    }
    Ok(Text { operator, value })
}

/// A value as an error shows it.
pub(super) fn shown(value: &Operand) -> String {
    match value {
        Operand::Text(text) => format!("'{text}'"),
        Operand::Number(number) => number.to_string(),
        Operand::List(list) => format!("('{}')", list.join("', '")),
        Operand::Nothing => String::new(),
    }
}

fn invalid_operator(operator: Op, valid: &str) -> String {
    format!(
        "Invalid comparator '{}' not one of {valid}",
        operator.as_str()
    )
}

fn sort_keys(clauses: &[String]) -> Result<Vec<(SortKey, bool)>, Error> {
    let mut keys: Vec<(SortKey, bool)> = Vec::with_capacity(clauses.len());
    for clause in clauses {
        let order = parse_order(clause)?;
        let descending = !order.ascending;
        let key = sort_key(order)?;
        if keys.iter().any(|(seen, _)| *seen == key) {
            return Err(Error::Invalid(format!(
                "`order_by` contains duplicate fields: {clauses:?}"
            )));
        }
        keys.push((key, descending));
    }
    Ok(keys)
}

fn sort_key(order: OrderKey) -> Result<SortKey, Error> {
    Ok(match entity(order.prefix.as_deref())? {
        Entity::Metric => SortKey::Metric(order.key),
        Entity::Param => SortKey::Param(order.key),
        Entity::Tag => SortKey::Tag(order.key),
        Entity::Attribute => match (attribute(&order.key), order.key.as_str()) {
            (Some(Attribute::Text(attribute)), _) => SortKey::Text(attribute),
            (Some(Attribute::Time(attribute)), _) => SortKey::Time(attribute),
            (None, "experiment_id") => SortKey::Text(TextAttribute::Experiment),
            (None, "lifecycle_stage") => SortKey::Text(TextAttribute::Lifecycle),
            (None, key) => return Err(unknown_attribute(key)),
        },
        Entity::Dataset => {
            return Err(Error::Invalid(
                "Runs are not ordered by their datasets".to_owned(),
            ));
        }
    })
}

#[cfg(test)]
mod tests;
