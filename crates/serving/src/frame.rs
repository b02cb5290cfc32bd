//! The typed columns of one call of a model.

use serde::Serialize;
use serde_json::Value;

/// Columns of equal length, and what Python makes of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) rows: usize,
    pub(crate) layout: Layout,
    pub(crate) columns: Vec<Buffer>,
}

/// Everything about a frame but its values. Frames of one layout can be joined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Layout {
    pub(crate) form: Form,
    pub(crate) columns: Vec<(String, Type)>,
}

/// What Python makes of the columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    /// A pandas DataFrame.
    Table,
    /// A numpy array with the columns side by side, of the columns' own type when `dtype` is
    /// absent.
    Matrix {
        dtype: Option<String>,
        shape: Option<Vec<i64>>,
    },
    /// Each column is an array of its own, made of nested lists: one of them, or a dictionary.
    Arrays {
        specs: Vec<(String, Vec<i64>)>,
        named: bool,
    },
}

/// How a column's values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Type {
    F64,
    F32,
    I64,
    I32,
    Bool,
    /// Nanoseconds since 1970 without a time zone.
    Datetime,
    Json,
    /// JSON strings of base64 that are bytes in Python.
    Binary,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Buffer {
    F64(Vec<f64>),
    F32(Vec<f32>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    Bool(Vec<bool>),
    Datetime(Vec<i64>),
    Json(Vec<Value>),
    Binary(Vec<Value>),
}

impl Buffer {
    pub(crate) fn kind(&self) -> Type {
        match self {
            Self::F64(_) => Type::F64,
            Self::F32(_) => Type::F32,
            Self::I64(_) => Type::I64,
            Self::I32(_) => Type::I32,
            Self::Bool(_) => Type::Bool,
            Self::Datetime(_) => Type::Datetime,
            Self::Json(_) => Type::Json,
            Self::Binary(_) => Type::Binary,
        }
    }

    fn append(&mut self, other: &Self) {
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => a.extend_from_slice(b),
            (Self::F32(a), Self::F32(b)) => a.extend_from_slice(b),
            (Self::I64(a), Self::I64(b)) | (Self::Datetime(a), Self::Datetime(b)) => {
                a.extend_from_slice(b);
            }
            (Self::I32(a), Self::I32(b)) => a.extend_from_slice(b),
            (Self::Bool(a), Self::Bool(b)) => a.extend_from_slice(b),
            (Self::Json(a), Self::Json(b)) | (Self::Binary(a), Self::Binary(b)) => {
                a.extend_from_slice(b);
            }
            _ => unreachable!("frames are joined only when their layouts are equal"),
        }
    }
}

impl Frame {
    /// Puts named columns together; all must have `rows` values.
    pub(crate) fn new(form: Form, rows: usize, columns: Vec<(String, Buffer)>) -> Self {
        let (names, columns): (Vec<_>, Vec<_>) = columns
            .into_iter()
            .map(|(name, buffer)| ((name, buffer.kind()), buffer))
            .unzip();
        Self {
            rows,
            layout: Layout {
                form,
                columns: names,
            },
            columns,
        }
    }

    /// Whether every column is a plain buffer, whose type does not depend on the other rows.
    pub(crate) fn is_numeric(&self) -> bool {
        self.layout
            .columns
            .iter()
            .all(|(_, kind)| !matches!(kind, Type::Json | Type::Binary))
    }

    /// Joins frames of one layout, row after row.
    pub(crate) fn join<'a>(frames: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut frames = frames.into_iter();
        let mut joined = frames.next()?.clone();
        for frame in frames {
            joined.rows += frame.rows;
            for (column, more) in joined.columns.iter_mut().zip(&frame.columns) {
                column.append(more);
            }
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_frames_are_one_below_the_other() {
        let frame = |v: Vec<f64>, i: Vec<i64>| {
            Frame::new(
                Form::Table,
                v.len(),
                vec![
                    ("a".to_owned(), Buffer::F64(v)),
                    ("b".to_owned(), Buffer::I64(i)),
                ],
            )
        };
        let joined = Frame::join([&frame(vec![1.0], vec![2]), &frame(vec![3.0], vec![4])]).unwrap();
        assert_eq!(joined, frame(vec![1.0, 3.0], vec![2, 4]));
        assert!(joined.is_numeric());
    }
}
