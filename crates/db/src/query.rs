//! One statement for both databases: text with `$1` placeholders, and its values.

use std::borrow::Cow;

use futures_util::{StreamExt, TryStreamExt};
use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use crate::conn::{Conn, Driver};
use crate::error::Error;
use crate::row::Row;
use crate::sqlite;

/// A value bound to a placeholder. `None` is a NULL of that type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(Option<i64>),
    Float(Option<f64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// A list, which PostgreSQL takes as an array: `UNNEST($1::BIGINT[])`. SQLite has none.
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

impl Value {
    /// Refuses what only one of the two databases would take.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let holds_nul = match self {
            Self::Text(Some(text)) => text.contains('\0'),
            Self::Texts(texts) => texts.iter().any(|text| text.contains('\0')),
            _ => false,
        };
        if holds_nul { Err(Error::Nul) } else { Ok(()) }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident $(as $to:ty)?),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from(v: $from) -> Self { Self::$variant(Some(v $(as $to)?)) }
        }
        impl From<Option<$from>> for Value {
            fn from(v: Option<$from>) -> Self { Self::$variant(v.map(|v| v $(as $to)?)) }
        }
    )*};
}
value_from!(i64 => Int, i32 => Int as i64, u32 => Int as i64, f64 => Float, bool => Bool, String => Text, Vec<u8> => Bytes);

macro_rules! list_from {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<Vec<$from>> for Value {
            fn from(v: Vec<$from>) -> Self { Self::$variant(v) }
        }
    )*};
}
list_from!(i64 => Ints, f64 => Floats, bool => Bools, String => Texts);

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(Some(v.to_owned()))
    }
}
impl From<Option<&str>> for Value {
    fn from(v: Option<&str>) -> Self {
        Self::Text(v.map(str::to_owned))
    }
}
impl From<&String> for Value {
    fn from(v: &String) -> Self {
        Self::Text(Some(v.clone()))
    }
}
impl From<&Option<String>> for Value {
    fn from(v: &Option<String>) -> Self {
        Self::Text(v.clone())
    }
}

/// A statement with its values.
#[derive(Debug, Clone)]
pub struct Query<'q> {
    sql: Cow<'q, str>,
    values: Vec<Value>,
}

/// Starts a statement. Values come only through [`Query::bind`], never through the text.
pub fn query<'q>(sql: impl Into<Cow<'q, str>>) -> Query<'q> {
    Query {
        sql: sql.into(),
        values: Vec::new(),
    }
}

impl Query<'_> {
    /// Binds the next placeholder.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Binds the next placeholders, in order.
    #[must_use]
    pub fn bind_all<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// Goes on with more text, in which `?` stands for one value, as often as it comes.
    #[must_use]
    pub fn then(mut self, sql: &str, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        let placeholder = format!("${}", self.values.len());
        self.sql.to_mut().push_str(&sql.replace('?', &placeholder));
        self
    }

    /// Adds a condition to a list's `WHERE`, if there is a value to meet it with.
    #[must_use]
    pub fn and(self, condition: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.then(&format!(" AND {condition}"), value),
            None => self,
        }
    }

    /// Runs the statement and tells how many rows it touched.
    pub async fn execute(self, conn: &mut Conn) -> Result<u64, Error> {
        match conn.driver() {
            Driver::Sqlite(c) => sqlite::execute(c, &self.sql, &self.values),
            Driver::Postgres(c) => {
                let run = sqlx::query_with(&self.sql, arguments(self.values)?);
                Ok(run.execute(c).await?.rows_affected())
            }
        }
    }

    /// Runs the statement for every `width` of its values, one row of a table after the other. For
    /// SQLite, where a call costs less than a longer statement; PostgreSQL takes arrays in one call.
    pub async fn execute_each(self, conn: &mut Conn, width: usize) -> Result<u64, Error> {
        match conn.driver() {
            Driver::Sqlite(c) => sqlite::execute_each(c, &self.sql, &self.values, width),
            Driver::Postgres(c) => {
                let mut touched = 0;
                for values in self.values.chunks(width) {
                    let run = sqlx::query_with(&self.sql, arguments(values.to_vec())?);
                    touched += run.execute(&mut *c).await?.rows_affected();
                }
                Ok(touched)
            }
        }
    }

    /// All rows of the answer. Only for answers with a limit.
    pub async fn fetch_all(self, conn: &mut Conn) -> Result<Vec<Row>, Error> {
        match conn.driver() {
            Driver::Sqlite(c) => {
                sqlite::blocking(|| sqlite::fetch(c, &self.sql, &self.values, usize::MAX))
            }
            Driver::Postgres(c) => {
                let run = sqlx::query_with(&self.sql, arguments(self.values)?);
                let rows = run.fetch_all(c).await?;
                Ok(rows.into_iter().map(Row::postgres).collect())
            }
        }
    }

    /// The first row, if there is one.
    pub async fn fetch_optional(self, conn: &mut Conn) -> Result<Option<Row>, Error> {
        match conn.driver() {
            Driver::Sqlite(c) => Ok(sqlite::fetch(c, &self.sql, &self.values, 1)?.pop()),
            Driver::Postgres(c) => {
                let run = sqlx::query_with(&self.sql, arguments(self.values)?);
                Ok(run.fetch_optional(c).await?.map(Row::postgres))
            }
        }
    }

    /// The one row that must be there.
    pub async fn fetch_one(self, conn: &mut Conn) -> Result<Row, Error> {
        self.fetch_optional(conn)
            .await?
            .ok_or(Error::Sqlx(sqlx::Error::RowNotFound))
    }

    /// Hands every row to `each` as it comes, for answers that need not be held whole.
    pub async fn for_each(self, conn: &mut Conn, mut each: impl FnMut(&Row)) -> Result<(), Error> {
        match conn.driver() {
            Driver::Sqlite(c) => {
                sqlite::blocking(|| sqlite::for_each(c, &self.sql, &self.values, each))
            }
            Driver::Postgres(c) => {
                let run = sqlx::query_with(&self.sql, arguments(self.values)?);
                let mut rows = run.fetch(c);
                while let Some(row) = rows.try_next().await? {
                    each(&Row::postgres(row));
                }
                Ok(())
            }
        }
    }

    /// Hands the rows over in lists of at most `size`; the next are read when `each` is done with
    /// the last, so that an answer of any length takes bounded memory.
    pub async fn in_chunks<E: From<Error>>(
        self,
        conn: &mut Conn,
        size: usize,
        mut each: impl AsyncFnMut(Vec<Row>) -> Result<(), E>,
    ) -> Result<(), E> {
        match conn.driver() {
            Driver::Sqlite(c) => sqlite::in_chunks(c, &self.sql, &self.values, size, each).await,
            Driver::Postgres(c) => {
                let run = sqlx::query_with(&self.sql, arguments(self.values)?);
                let mut chunks = run.fetch(c).try_chunks(size);
                while let Some(chunk) = chunks.next().await {
                    let chunk = chunk.map_err(|failed| Error::from(failed.1))?;
                    each(chunk.into_iter().map(Row::postgres).collect()).await?;
                }
                Ok(())
            }
        }
    }
}

fn arguments(values: Vec<Value>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        value.check()?;
        match value {
            Value::Int(v) => arguments.add(v),
            Value::Float(v) => arguments.add(v),
            Value::Bool(v) => arguments.add(v),
            Value::Text(v) => arguments.add(v),
            Value::Bytes(v) => arguments.add(v),
            Value::Ints(v) => arguments.add(v),
            Value::Floats(v) => arguments.add(v),
            Value::Bools(v) => arguments.add(v),
            Value::Texts(v) => arguments.add(v),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_takes_the_next_placeholder() {
        let list = query("SELECT a FROM t WHERE b = $1")
            .bind("one")
            .and("c = ?", None::<i64>)
            .and("(d = ? OR e = ?)", Some("two"))
            .then(" LIMIT ?", 3_i64);
        assert_eq!(
            list.sql,
            "SELECT a FROM t WHERE b = $1 AND (d = $2 OR e = $2) LIMIT $3"
        );
        assert_eq!(
            list.values,
            ["one".into(), "two".into(), Value::from(3_i64)]
        );
    }
}
