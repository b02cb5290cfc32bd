//! The statements of the registry's searches.

use db::{Conn, Value, query};
use tracking::filter::{Clause, Op, Operand, OrderKey};

use super::{models, versions};
use crate::error::Error;
use crate::model::RegisteredModel;
use crate::search::Wanted;
use crate::version::ModelVersion;

/// Conditions of a statement, with the values they bind.
#[derive(Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Value>,
}

/// One more model than the limit, if there are so many.
pub(crate) async fn models(
    conn: &mut Conn,
    wanted: &Wanted,
) -> Result<Vec<RegisteredModel>, Error> {
    let mut conditions = Conditions::default();
    for clause in &wanted.clauses {
        match clause.prefix.as_deref() {
            None | Some("attribute") if clause.key == "name" => {
                conditions.text("m.name", clause)?
            }
            Some("tag" | "tags") => conditions.tag(
                "SELECT 1 FROM registered_model_tags t WHERE t.name = m.name",
                clause,
            )?,
            _ => return Err(no_attribute(clause, "name")),
        }
    }
    let not = if wanted.prompts { "" } else { "NOT " };
    conditions.texts.push(format!("{not}{IS_PROMPT}"));
    let mut order = Vec::new();
    for key in &wanted.order {
        let column = match key.key.as_str() {
            "name" => "m.name",
            "timestamp" | "last_updated_timestamp" => "m.updated_at",
            _ => return Err(no_order(key, "name, timestamp, last_updated_timestamp")),
        };
        order.push(directed(column, key));
    }
    order.push("m.name".to_owned());
    let columns = models::columns(conn.backend());
    let from = format!("SELECT {columns} FROM registered_models m");
    let rows = conditions.fetch(conn, &from, &order, wanted).await?;
    Ok(rows.iter().map(models::model).collect())
}

/// One more version than the limit, if there are so many.
pub(crate) async fn versions(conn: &mut Conn, wanted: &Wanted) -> Result<Vec<ModelVersion>, Error> {
    let mut conditions = Conditions::default();
    for clause in &wanted.clauses {
        let attribute = match clause.prefix.as_deref() {
            None | Some("attribute") => clause.key.as_str(),
            Some("tag" | "tags") => {
                conditions.tag(
                    "SELECT 1 FROM model_version_tags t \
                     WHERE t.name = v.name AND t.version = v.version",
                    clause,
                )?;
                continue;
            }
            Some(_) => "",
        };
        match attribute {
            "name" => conditions.text("v.name", clause)?,
            "run_id" => conditions.text("v.run_id", clause)?,
            "source_path" => conditions.text("v.source", clause)?,
            "version_number" => conditions.number("v.version", clause)?,
            _ => {
                let valid = "name, run_id, source_path, version_number";
                return Err(no_attribute(clause, valid));
            }
        }
    }
    let not = if wanted.prompts { "" } else { "NOT " };
    let prompt = IS_PROMPT.replace("m.name", "v.name");
    conditions.texts.push(format!("{not}{prompt}"));
    let mut order = Vec::new();
    for key in &wanted.order {
        let column = match key.key.as_str() {
            "name" => "v.name",
            "version_number" => "v.version",
            "creation_timestamp" => "v.created_at",
            "last_updated_timestamp" => "v.updated_at",
            _ => {
                let valid = "name, version_number, creation_timestamp, last_updated_timestamp";
                return Err(no_order(key, valid));
            }
        };
        order.push(directed(column, key));
    }
    if order.is_empty() {
        order.push("v.updated_at DESC".to_owned());
    }
    for last in ["v.name", "v.version DESC"] {
        order.push(last.to_owned());
    }
    let columns = versions::columns(conn.backend());
    let from = format!("SELECT {columns} FROM model_versions v");
    let rows = conditions.fetch(conn, &from, &order, wanted).await?;
    Ok(rows.iter().map(versions::version).collect())
}

const IS_PROMPT: &str = "EXISTS (SELECT 1 FROM registered_model_tags p WHERE p.name = m.name \
     AND p.key = 'mlflow.prompt.is_prompt' AND LOWER(p.value) = 'true')";

fn no_attribute(clause: &Clause, valid: &str) -> Error {
    let key = match &clause.prefix {
        Some(prefix) => format!("{prefix}.{}", clause.key),
        None => clause.key.clone(),
    };
    Error::Invalid(format!(
        "Invalid attribute key '{key}' specified. Valid keys are {valid}, and tags.KEY"
    ))
}

fn no_order(key: &OrderKey, valid: &str) -> Error {
    Error::Invalid(format!(
        "Invalid order by key '{}' specified. Valid keys are {valid}",
        key.key
    ))
}

fn directed(column: &str, key: &OrderKey) -> String {
    let direction = if key.ascending { "ASC" } else { "DESC" };
    format!("{column} {direction}")
}

impl Conditions {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn tag(&mut self, owned: &str, clause: &Clause) -> Result<(), Error> {
        let key = self.bind(&clause.key);
        let value = self.compared("t.value", clause)?;
        self.texts
            .push(format!("EXISTS ({owned} AND t.key = {key} AND {value})"));
        Ok(())
    }

    fn text(&mut self, column: &str, clause: &Clause) -> Result<(), Error> {
        let condition = self.compared(column, clause)?;
        self.texts.push(condition);
        Ok(())
    }

    fn compared(&mut self, column: &str, clause: &Clause) -> Result<String, Error> {
        match (clause.op, &clause.value) {
            (Op::Eq | Op::Ne, Operand::Text(text)) => {
                let place = self.bind(text);
                Ok(format!("{column} {} {place}", clause.op.as_str()))
            }
            // A backslash is an ordinary character in MLflow's patterns.
            (Op::Like, Operand::Text(text)) => {
                let place = self.bind(text);
                Ok(format!("{column} LIKE {place} ESCAPE '\u{1}'"))
            }
            (Op::Ilike, Operand::Text(text)) => {
                let place = self.bind(text);
                Ok(format!(
                    "LOWER({column}) LIKE LOWER({place}) ESCAPE '\u{1}'"
                ))
            }
            (Op::In | Op::NotIn, Operand::List(items)) if !column.starts_with("t.") => {
                let places: Vec<_> = items.iter().map(|item| self.bind(item)).collect();
                let places = places.join(", ");
                Ok(format!("{column} {} ({places})", clause.op.as_str()))
            }
            _ => Err(Error::Invalid(format!(
                "Invalid comparator for '{}': {} takes quoted texts with =, !=, LIKE or ILIKE",
                clause.key, clause.key
            ))),
        }
    }

    fn number(&mut self, column: &str, clause: &Clause) -> Result<(), Error> {
        let ordered = matches!(
            clause.op,
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge
        );
        let number = match &clause.value {
            Operand::Number(number) if number.fract() == 0.0 => Some(*number),
            // MLflow takes the number quoted as well.
            Operand::Text(text) => text.parse::<i32>().ok().map(f64::from),
            _ => None,
        };
        let Some(number) = number.filter(|_| ordered) else {
            return Err(Error::Invalid(format!(
                "Invalid value or comparator for numeric attribute '{}': it takes a whole number \
                 with =, !=, <, <=, > or >=",
                clause.key
            )));
        };
        let place = self.bind(number);
        self.texts
            .push(format!("{column} {} {place}", clause.op.as_str()));
        Ok(())
    }

    async fn fetch(
        mut self,
        conn: &mut Conn,
        from: &str,
        order: &[String],
        wanted: &Wanted,
    ) -> Result<Vec<db::Row>, db::Error> {
        let limit = self.bind(wanted.limit + 1);
        let offset = self.bind(wanted.offset);
        query(format!(
            "{from} WHERE {} ORDER BY {} LIMIT {limit} OFFSET {offset}",
            self.texts.join(" AND "),
            order.join(", ")
        ))
        .bind_all(self.values)
        .fetch_all(conn)
        .await
    }
}
