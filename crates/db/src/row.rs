//! Rows of an answer, and the types that their columns are read as.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Decode, Postgres, Row as _, Type};

use crate::error::Error;

/// A row of an answer.
pub struct Row(Kind);

enum Kind {
    Sqlite { answer: Arc<Answer>, at: usize },
    Postgres(PgRow),
}

/// What SQLite answered: all rows in one piece, so that a row costs no allocation of its own.
#[derive(Default)]
pub(crate) struct Answer {
    names: Vec<Box<str>>,
    cells: Vec<Stored>,
    bytes: Vec<u8>,
}

/// A cell; texts and blobs are a range of the answer's bytes.
enum Stored {
    Null,
    Int(i64),
    Float(f64),
    Text(usize, usize),
    Blob(usize, usize),
}

/// What a cell of SQLite holds.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'r> {
    Null,
    Int(i64),
    Float(f64),
    Text(&'r [u8]),
    Blob(&'r [u8]),
}

/// A type that columns are read as, the same from both databases.
pub trait Column: Sized + Type<Postgres> + for<'r> Decode<'r, Postgres> {
    /// Reads a cell of SQLite; `None` when it holds another type.
    fn of_cell(cell: Cell<'_>) -> Option<Self>;
}

/// What names a column: its position (quick) or its name.
pub trait Place: ColumnIndex<PgRow> {
    /// The position among the columns.
    fn position(&self, names: &[Box<str>]) -> Option<usize>;
}

impl Place for usize {
    fn position(&self, names: &[Box<str>]) -> Option<usize> {
        (*self < names.len()).then_some(*self)
    }
}

impl Place for &str {
    fn position(&self, names: &[Box<str>]) -> Option<usize> {
        names.iter().position(|name| **name == **self)
    }
}

impl Answer {
    /// An empty answer with these columns.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self {
            names: names.into_iter().map(Box::from).collect(),
            ..Self::default()
        }
    }

    /// Takes in a row.
    pub(crate) fn push(&mut self, row: &rusqlite::Row<'_>) -> Result<(), Error> {
        for column in 0..self.names.len() {
            let cell = match row.get_ref(column)? {
                ValueRef::Null => Stored::Null,
                ValueRef::Integer(v) => Stored::Int(v),
                ValueRef::Real(v) => Stored::Float(v),
                ValueRef::Text(v) => Stored::Text(self.keep(v), v.len()),
                ValueRef::Blob(v) => Stored::Blob(self.keep(v), v.len()),
            };
            self.cells.push(cell);
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> usize {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin
    }

    /// Forgets its rows, not its columns.
    fn clear(&mut self) {
        self.cells.clear();
        self.bytes.clear();
    }

    /// The rows, one by one.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        let rows = self.cells.len().checked_div(self.names.len());
        let answer = Arc::new(self);
        let row = |at| {
            Row(Kind::Sqlite {
                answer: answer.clone(),
                at,
            })
        };
        (0..rows.unwrap_or(0)).map(row).collect()
    }

    fn cell(&self, at: usize, column: usize) -> Cell<'_> {
        match self.cells[at * self.names.len() + column] {
            Stored::Null => Cell::Null,
            Stored::Int(v) => Cell::Int(v),
            Stored::Float(v) => Cell::Float(v),
            Stored::Text(begin, length) => Cell::Text(&self.bytes[begin..begin + length]),
            Stored::Blob(begin, length) => Cell::Blob(&self.bytes[begin..begin + length]),
        }
    }
}

impl Row {
    /// A row to put others into, one after the other.
    pub(crate) fn reused(answer: Answer) -> Self {
        let answer = Arc::new(answer);
        Self(Kind::Sqlite { answer, at: 0 })
    }

    /// Puts a row of SQLite in the place of the one that it held.
    pub(crate) fn replace(&mut self, row: &rusqlite::Row<'_>) -> Result<(), Error> {
        if let Kind::Sqlite { answer, .. } = &mut self.0
            && let Some(answer) = Arc::get_mut(answer)
        {
            answer.clear();
            answer.push(row)?;
        }
        Ok(())
    }

    pub(crate) fn postgres(row: PgRow) -> Self {
        Self(Kind::Postgres(row))
    }

    /// The value of a column, by position (quick) or name.
    ///
    /// # Errors
    /// When there is no such column or it holds another type.
    pub fn try_get<T: Column, I: Place>(&self, column: I) -> Result<T, Error> {
        match &self.0 {
            Kind::Sqlite { answer, at } => column
                .position(&answer.names)
                .and_then(|column| T::of_cell(answer.cell(*at, column)))
                .ok_or_else(|| Error::Column(format!("{column:?}"))),
            Kind::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// The value of a column that the statement itself names and types.
    ///
    /// # Panics
    /// When the statement and the call do not fit together, which a test of the store function shows.
    pub fn get<T: Column, I: Place>(&self, column: I) -> T {
        match self.try_get(column) {
            Ok(value) => value,
            Err(error) => panic!("a column is not what its statement promises: {error}"),
        }
    }
}

impl Column for i64 {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Int(v) => Some(v),
            _ => None,
        }
    }
}

impl Column for f64 {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Float(v) => Some(v),
            Cell::Int(v) => Some(v as f64),
            _ => None,
        }
    }
}

impl Column for bool {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Int(v) => Some(v != 0),
            _ => None,
        }
    }
}

impl Column for String {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Text(v) => std::str::from_utf8(v).ok().map(str::to_owned),
            _ => None,
        }
    }
}

impl Column for Vec<u8> {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Blob(v) => Some(v.to_vec()),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn of_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            other => T::of_cell(other).map(Some),
        }
    }
}

/// Arrays come from PostgreSQL only.
impl Column for Vec<i64> {
    fn of_cell(_: Cell<'_>) -> Option<Self> {
        None
    }
}

/// Arrays come from PostgreSQL only.
impl Column for Vec<String> {
    fn of_cell(_: Cell<'_>) -> Option<Self> {
        None
    }
}
