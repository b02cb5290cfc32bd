//! The statement of a search for logged models.

use db::{Conn, Value, query};

use super::logged_models::{COLUMNS, complete};
use crate::error::Error;
use crate::experiment;
use crate::filter::{Clause, Op, Operand, parse_filter, parse_order};
use crate::logged_model::{LoggedModel, LoggedModelStatus, OrderBy, SearchLoggedModels};

/// The conditions and order of a search, with the values they bind.
pub(crate) struct Search {
    conditions: Vec<String>,
    order: Vec<String>,
    values: Vec<Value>,
}

pub(crate) async fn list(
    conn: &mut Conn,
    mut search: Search,
    limit: i64,
    offset: i64,
) -> Result<Vec<LoggedModel>, db::Error> {
    let limit = search.bind(limit);
    let offset = search.bind(offset);
    let rows = query(format!(
        "SELECT {COLUMNS} FROM logged_models m WHERE {} ORDER BY {} LIMIT {limit} OFFSET {offset}",
        search.conditions.join(" AND "),
        search.order.join(", "),
    ))
    .bind_all(search.values)
    .fetch_all(conn)
    .await?;
    complete(conn, &rows).await
}

impl Search {
    /// Reads what is wanted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter or order that cannot be read.
    pub(crate) fn new(wanted: &SearchLoggedModels) -> Result<Self, Error> {
        let mut search = Self {
            conditions: vec!["m.lifecycle_stage = 'active'".to_owned()],
            order: Vec::new(),
            values: Vec::new(),
        };
        let mut experiments = Vec::new();
        for id in &wanted.experiment_ids {
            let id = experiment::parse_id(id)?;
            experiments.push(search.bind(id));
        }
        search.conditions.push(match experiments.is_empty() {
            true => "1 = 0".to_owned(),
            false => format!("m.experiment_id IN ({})", experiments.join(", ")),
        });
        let clauses = parse_filter(&wanted.filter)?;
        for clause in &clauses {
            let condition = search.condition(clause, &wanted.datasets)?;
            search.conditions.push(condition);
        }
        let by_metric = |c: &Clause| c.prefix.as_deref() == Some("metrics");
        if !wanted.datasets.is_empty() && !clauses.iter().any(by_metric) {
            let datasets = search.datasets(&wanted.datasets);
            search.conditions.push(format!(
                "EXISTS (SELECT 1 FROM logged_model_metrics x \
                 WHERE x.model_id = m.model_id{datasets})"
            ));
        }
        for order in &wanted.order_by {
            search.order_by(order)?;
        }
        search.order.push("m.creation_time DESC".to_owned());
        search.order.push("m.model_id".to_owned());
        Ok(search)
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn condition(
        &mut self,
        clause: &Clause,
        datasets: &[(String, Option<String>)],
    ) -> Result<String, Error> {
        let owned_by = |table: &str, key: String, rest: String| {
            format!(
                "EXISTS (SELECT 1 FROM {table} x WHERE x.model_id = m.model_id AND x.key = {key}{rest})"
            )
        };
        match clause.prefix.as_deref() {
            None | Some("attributes") => self.attribute(clause),
            Some("params" | "tags") => {
                let table = match clause.prefix.as_deref() {
                    Some("tags") => "logged_model_tags",
                    _ => "logged_model_params",
                };
                let key = self.bind(&clause.key);
                let value = self.text("x.value", clause)?;
                Ok(owned_by(table, key, format!(" AND {value}")))
            }
            Some("metrics") => {
                let key = self.bind(&clause.key);
                let value = self.number("x.value", clause)?;
                let value = match clause.op {
                    Op::Ne => format!(" AND (x.is_nan OR {value})"),
                    _ => format!(" AND NOT x.is_nan AND {value}"),
                };
                let datasets = self.datasets(datasets);
                Ok(owned_by("logged_model_metrics", key, value + &datasets))
            }
            Some(other) => Err(Error::Invalid(format!(
                "Invalid entity type: '{other}'. Expected one of attributes, metrics, params, tags."
            ))),
        }
    }

    fn attribute(&mut self, clause: &Clause) -> Result<String, Error> {
        let (column, is_number) = attribute(&clause.key)?;
        if is_number {
            return self.number(column, clause);
        }
        if column != "m.status" {
            return self.text(column, clause);
        }
        let mut clause = clause.clone();
        if let Operand::Text(text) = &mut clause.value
            && let Some(status) = LoggedModelStatus::parse(&format!("LOGGED_MODEL_{text}"))
        {
            *text = status.as_str().to_owned();
        }
        self.text(column, &clause)
    }

    fn text(&mut self, column: &str, clause: &Clause) -> Result<String, Error> {
        match (clause.op, &clause.value) {
            (Op::Eq | Op::Ne, Operand::Text(text)) => Ok(format!(
                "{column} {} {}",
                clause.op.as_str(),
                self.bind(text)
            )),
            // A backslash is an ordinary character in MLflow's patterns.
            (Op::Like, Operand::Text(text)) => {
                Ok(format!("{column} LIKE {} ESCAPE '\u{1}'", self.bind(text)))
            }
            (Op::Ilike, Operand::Text(text)) => {
                let pattern = self.bind(text);
                Ok(format!(
                    "LOWER({column}) LIKE LOWER({pattern}) ESCAPE '\u{1}'"
                ))
            }
            (Op::In | Op::NotIn, Operand::List(items)) => {
                let places: Vec<_> = items.iter().map(|item| self.bind(item)).collect();
                let places = places.join(", ");
                Ok(format!("{column} {} ({places})", clause.op.as_str()))
            }
            _ => Err(Error::Invalid(format!(
                "Invalid comparison for '{}': {} takes quoted texts with =, !=, LIKE, ILIKE, IN or NOT IN",
                clause.key, clause.key,
            ))),
        }
    }

    fn number(&mut self, column: &str, clause: &Clause) -> Result<String, Error> {
        let ordered = matches!(
            clause.op,
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge
        );
        match &clause.value {
            Operand::Number(number) if ordered => {
                let place = self.bind(*number);
                Ok(format!("{column} {} {place}", clause.op.as_str()))
            }
            _ => Err(Error::Invalid(format!(
                "Invalid comparison for '{}': it takes a number with =, !=, <, <=, > or >=",
                clause.key
            ))),
        }
    }

    fn datasets(&mut self, datasets: &[(String, Option<String>)]) -> String {
        let mut any = Vec::new();
        for (name, digest) in datasets {
            let mut one = format!("x.dataset_name = {}", self.bind(name));
            if let Some(digest) = digest {
                one += &format!(" AND x.dataset_digest = {}", self.bind(digest));
            }
            any.push(format!("({one})"));
        }
        match any.is_empty() {
            true => String::new(),
            false => format!(" AND ({})", any.join(" OR ")),
        }
    }

    fn order_by(&mut self, order: &OrderBy) -> Result<(), Error> {
        let key = parse_order(&order.field_name)?;
        let value = match key.prefix.as_deref() {
            None | Some("attributes") => attribute(&key.key)?.0.to_owned(),
            Some("metrics") => {
                let name = self.bind(&key.key);
                let mut only = String::new();
                if let Some(dataset) = &order.dataset_name {
                    only += &format!(" AND x.dataset_name = {}", self.bind(dataset));
                }
                if let Some(digest) = &order.dataset_digest {
                    only += &format!(" AND x.dataset_digest = {}", self.bind(digest));
                }
                format!(
                    "(SELECT CASE WHEN x.is_nan THEN NULL ELSE x.value END \
                     FROM logged_model_metrics x \
                     WHERE x.model_id = m.model_id AND x.key = {name}{only} \
                     ORDER BY x.timestamp DESC, x.step DESC, x.run_id LIMIT 1)"
                )
            }
            Some(_) => {
                return Err(Error::Invalid(format!(
                    "Invalid order by field name: {}. Only attributes and metrics are supported.",
                    order.field_name
                )));
            }
        };
        let direction = if order.ascending { "ASC" } else { "DESC" };
        self.order.push(format!("({value} IS NULL)"));
        self.order.push(format!("{value} {direction}"));
        Ok(())
    }
}

/// The column of an attribute, and whether it holds numbers.
fn attribute(name: &str) -> Result<(&'static str, bool), Error> {
    Ok(match name {
        "model_id" => ("m.model_id", false),
        "name" => ("m.name", false),
        "model_type" => ("m.model_type", false),
        "status" => ("m.status", false),
        "source_run_id" => ("m.source_run_id", false),
        "artifact_location" | "artifact_uri" => ("m.artifact_uri", false),
        "creation_time" | "creation_timestamp" | "creation_timestamp_ms" => {
            ("m.creation_time", true)
        }
        "last_updated_time" | "last_updated_timestamp" | "last_updated_timestamp_ms" => {
            ("m.last_update_time", true)
        }
        _ => {
            return Err(Error::Invalid(format!(
                "Invalid attribute '{name}' of a logged model: valid ones are model_id, name, \
                 model_type, status, source_run_id, artifact_location, creation_timestamp and \
                 last_updated_timestamp"
            )));
        }
    })
}
