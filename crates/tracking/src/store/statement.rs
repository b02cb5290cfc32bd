//! Statements that grow with what a search asks for; every value is bound.

use db::{Backend, Conn, Error, Row, Value, query};

use crate::filter::{Op, Operand};
use crate::store::{Ids, Texts};

/// The text of a statement so far, and its values.
pub(crate) struct Statement {
    text: String,
    values: Vec<Value>,
    backend: Backend,
}

impl Statement {
    pub(crate) fn new(backend: Backend, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            values: Vec::new(),
            backend,
        }
    }

    /// Which database it is for.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// What ends a subquery that is to be looked at as it stands, for each row of what surrounds it.
    /// PostgreSQL otherwise joins its table in the order that it takes for the quickest, by guesses
    /// as long as nothing is known of the tables; SQLite is told the order by a CROSS JOIN.
    pub(crate) fn fence(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " OFFSET 0",
        }
    }

    /// Adds text that holds no value of a caller.
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Binds a value and gives its placeholder.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Binds numbers and gives what stands in `IN (...)`.
    pub(crate) fn bind_ids(&mut self, ids: &[i64]) -> String {
        let ids = Ids::of(ids.iter().copied());
        self.values.push(ids.text().into());
        ids.select(self.backend, self.values.len())
    }

    /// Adds the comparison of a text column.
    pub(crate) fn push_text(&mut self, column: &str, op: Op, value: &Operand) {
        let sign = op.as_str();
        let text = match (op, value) {
            (Op::IsNull | Op::IsNotNull, _) => format!("{column} {sign}"),
            (Op::Like, Operand::Text(pattern)) => {
                let place = self.bind(pattern);
                format!("{column} LIKE {place}{}", self.no_escape())
            }
            (Op::Ilike, Operand::Text(pattern)) => {
                let place = self.bind(pattern);
                format!("LOWER({column}) LIKE LOWER({place}){}", self.no_escape())
            }
            (Op::Rlike, Operand::Text(pattern)) => match self.backend {
                Backend::Sqlite => format!("{column} REGEXP {}", self.bind(pattern)),
                Backend::Postgres => {
                    let place = self.bind(db::postgres_pattern(pattern));
                    format!("{column} ~ {place}")
                }
            },
            (_, Operand::List(list)) => {
                let texts = Texts::of(list.iter().map(String::as_str));
                self.values.push(texts.text().into());
                let among = texts.select(self.backend, self.values.len());
                format!("{column} {sign} ({among})")
            }
            (_, Operand::Text(text)) => {
                let place = self.bind(text);
                format!("{column} {sign} {place}")
            }
            (_, Operand::Number(_) | Operand::Nothing) => {
                unreachable!("a search compares texts with texts")
            }
        };
        self.push(&text);
    }

    /// SQLite knows no escape in a pattern unless told; PostgreSQL knows one unless told.
    fn no_escape(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " ESCAPE ''",
        }
    }

    /// Adds the comparison of a number column.
    pub(crate) fn push_number(&mut self, column: &str, op: Op, value: f64) {
        let place = self.bind(value);
        let sign = op.as_str();
        self.push(&format!("{column} {sign} {place}"));
    }

    pub(crate) async fn fetch_all(self, conn: &mut Conn) -> Result<Vec<Row>, Error> {
        query(self.text).bind_all(self.values).fetch_all(conn).await
    }

    /// The one row that is always there, such as a count.
    pub(crate) async fn fetch_one(self, conn: &mut Conn) -> Result<Row, Error> {
        query(self.text).bind_all(self.values).fetch_one(conn).await
    }
}
