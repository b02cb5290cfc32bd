//! One statement for both databases: text with `$1` placeholders, values, rows.

use std::borrow::Cow;

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, ColumnIndex, Decode, Postgres, Row as _, Sqlite, Type};

use crate::conn::{Conn, Driver};
use crate::error::Error;

/// A value bound to a placeholder. `None` is a NULL of that type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(Option<i64>),
    Float(Option<f64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
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

    /// Runs the statement and tells how many rows it touched.
    pub async fn execute(self, conn: &mut Conn) -> Result<u64, Error> {
        Ok(match conn.driver() {
            Driver::Sqlite(c) => sqlx::query_with(&self.sql, sqlite_arguments(self.values)?)
                .execute(c)
                .await?
                .rows_affected(),
            Driver::Postgres(c) => sqlx::query_with(&self.sql, postgres_arguments(self.values)?)
                .execute(c)
                .await?
                .rows_affected(),
        })
    }

    /// All rows of the answer. Only for answers with a limit.
    pub async fn fetch_all(self, conn: &mut Conn) -> Result<Vec<Row>, Error> {
        Ok(match conn.driver() {
            Driver::Sqlite(c) => {
                let rows = sqlx::query_with(&self.sql, sqlite_arguments(self.values)?)
                    .fetch_all(c)
                    .await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Driver::Postgres(c) => {
                let rows = sqlx::query_with(&self.sql, postgres_arguments(self.values)?)
                    .fetch_all(c)
                    .await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row, if there is one.
    pub async fn fetch_optional(self, conn: &mut Conn) -> Result<Option<Row>, Error> {
        Ok(match conn.driver() {
            Driver::Sqlite(c) => sqlx::query_with(&self.sql, sqlite_arguments(self.values)?)
                .fetch_optional(c)
                .await?
                .map(Row::Sqlite),
            Driver::Postgres(c) => sqlx::query_with(&self.sql, postgres_arguments(self.values)?)
                .fetch_optional(c)
                .await?
                .map(Row::Postgres),
        })
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
                let arguments = sqlite_arguments(self.values)?;
                let mut rows: BoxStream<'_, _> = sqlx::query_with(&self.sql, arguments)
                    .fetch(c)
                    .map_ok(Row::Sqlite)
                    .boxed();
                while let Some(row) = rows.next().await {
                    each(&row?);
                }
            }
            Driver::Postgres(c) => {
                let arguments = postgres_arguments(self.values)?;
                let mut rows: BoxStream<'_, _> = sqlx::query_with(&self.sql, arguments)
                    .fetch(c)
                    .map_ok(Row::Postgres)
                    .boxed();
                while let Some(row) = rows.next().await {
                    each(&row?);
                }
            }
        }
        Ok(())
    }
}

macro_rules! arguments {
    ($name:ident, $type:ty) => {
        fn $name(values: Vec<Value>) -> Result<$type, Error> {
            let mut arguments = <$type>::default();
            for value in values {
                match value {
                    Value::Int(v) => arguments.add(v),
                    Value::Float(v) => arguments.add(v),
                    Value::Bool(v) => arguments.add(v),
                    Value::Text(v) => arguments.add(v),
                    Value::Bytes(v) => arguments.add(v),
                }
                .map_err(sqlx::Error::Encode)?;
            }
            Ok(arguments)
        }
    };
}
arguments!(sqlite_arguments, SqliteArguments<'static>);
arguments!(postgres_arguments, PgArguments);

/// A row of an answer.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, by position (quick) or name.
    ///
    /// # Errors
    /// When there is no such column or it holds another type.
    pub fn try_get<T, I>(&self, column: I) -> Result<T, Error>
    where
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The value of a column that the statement itself names and types.
    ///
    /// # Panics
    /// When the statement and the call do not fit together, which a test of the store function shows.
    pub fn get<T, I>(&self, column: I) -> T
    where
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        match self.try_get(column) {
            Ok(value) => value,
            Err(error) => panic!("a column is not what its statement promises: {error}"),
        }
    }
}
