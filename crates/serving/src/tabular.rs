//! Tables and arrays, in the forms that other protocols send them, as columns.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::inputs::{Cells, Inputs, MOST_COLUMNS};

/// `{"columns": [name, ...], "data": [row, ...]}`
#[derive(Debug, Deserialize)]
pub(crate) struct Split {
    columns: Option<Vec<Value>>,
    data: Vec<Vec<Value>>,
}

/// Columns by name, or rows as lists or objects. Their order is kept: for a model without names
/// it is all there is.
#[derive(Debug)]
pub(crate) enum Table {
    Columns(Inputs),
    Rows(Vec<Row>),
}

/// A row; a value by itself is a row of one.
#[derive(Debug)]
pub(crate) enum Row {
    List(Vec<Value>),
    Record(Vec<(String, Value)>),
}

impl Split {
    pub(crate) fn into_inputs(self) -> Result<Inputs, String> {
        let name = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let names = self.columns.map(|c| c.into_iter().map(name).collect());
        of_rows(names, self.data)
    }
}

impl Table {
    pub(crate) fn into_inputs(self) -> Result<Inputs, String> {
        let rows = match self {
            Self::Columns(inputs) => return Ok(inputs),
            Self::Rows(rows) => rows,
        };
        if matches!(rows.first(), Some(Row::Record(_))) {
            return records(rows);
        }
        let list = |(at, row)| match row {
            Row::List(values) => Ok(values),
            Row::Record(_) => Err(format!("row {at} is an object, the first is a list")),
        };
        let rows = rows.into_iter().enumerate().map(list);
        of_rows(None, rows.collect::<Result<_, String>>()?)
    }
}

/// Rows as objects; a name that a row lacks is null there.
fn records(rows: Vec<Row>) -> Result<Inputs, String> {
    let count = rows.len();
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (at, row) in rows.into_iter().enumerate() {
        let Row::Record(fields) = row else {
            return Err(format!("row {at} is no object, the first is one"));
        };
        for (name, value) in fields {
            let column = *known.entry(name.clone()).or_insert_with(|| {
                columns.push((name, vec![Value::Null; count]));
                columns.len() - 1
            });
            columns[column].1[at] = value;
        }
        check_width(columns.len())?;
    }
    let columns = columns.into_iter();
    columns
        .map(|(name, values)| Ok((name, cells(values)?)))
        .collect::<Result<_, String>>()
        .map(Inputs)
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor;
        impl<'de> Visitor<'de> for TableVisitor {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns or a list of rows")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table, A::Error> {
                Inputs::deserialize(MapAccessDeserializer::new(map)).map(Table::Columns)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Table, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = seq.next_element()? {
                    rows.push(row);
                }
                Ok(Table::Rows(rows))
            }
        }
        deserializer.deserialize_any(TableVisitor)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowVisitor;
        impl<'de> Visitor<'de> for RowVisitor {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row: a list, an object, or one value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Row::Record(fields))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Row, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Row::List(values))
            }

            fn visit_bool<E>(self, v: bool) -> Result<Row, E> {
                Ok(Row::List(vec![v.into()]))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Row, E> {
                Ok(Row::List(vec![v.into()]))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Row, E> {
                Ok(Row::List(vec![v.into()]))
            }

            fn visit_f64<E>(self, v: f64) -> Result<Row, E> {
                Ok(Row::List(vec![v.into()]))
            }

            fn visit_str<E>(self, v: &str) -> Result<Row, E> {
                Ok(Row::List(vec![v.into()]))
            }

            fn visit_unit<E>(self) -> Result<Row, E> {
                Ok(Row::List(vec![Value::Null]))
            }
        }
        deserializer.deserialize_any(RowVisitor)
    }
}

/// Columns of rows; without names they are numbered.
pub(crate) fn of_rows(names: Option<Vec<String>>, rows: Vec<Vec<Value>>) -> Result<Inputs, String> {
    let width = match &names {
        Some(names) => names.len(),
        None => rows.first().map_or(0, Vec::len),
    };
    check_width(width)?;
    let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(rows.len()); width];
    for (at, row) in rows.into_iter().enumerate() {
        if row.len() != width {
            let found = row.len();
            return Err(format!("row {at} has {found} values in place of {width}"));
        }
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let names = names.unwrap_or_else(|| (0..width).map(|at| at.to_string()).collect());
    let named = names.into_iter().zip(columns);
    named
        .map(|(name, column)| Ok((name, cells(column)?)))
        .collect::<Result<_, String>>()
        .map(Inputs)
}

pub(crate) fn cells(values: Vec<Value>) -> Result<Cells, String> {
    Cells::deserialize(Value::Array(values)).map_err(|e| e.to_string())
}

fn check_width(width: usize) -> Result<(), String> {
    if width > MOST_COLUMNS {
        return Err(format!(
            "there are more than {MOST_COLUMNS} columns, which is the most"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(text: &str) -> Result<Inputs, String> {
        let table: Table = serde_json::from_str(text).map_err(|e| e.to_string())?;
        table.into_inputs()
    }

    #[test]
    fn columns_keep_the_order_in_which_they_were_sent() {
        let names = |text| {
            let Inputs(columns) = table(text).unwrap();
            columns
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(r#"{"b": [1], "a": [2]}"#), ["b", "a"]);
        assert_eq!(names(r#"[{"b": 1, "a": 2}, {"c": 3}]"#), ["b", "a", "c"]);
    }

    #[test]
    fn rows_without_names_are_numbered_columns() {
        let inputs = table(r#"[[1, "x"], [2, "y"]]"#).unwrap();
        assert_eq!(inputs.0[0], ("0".to_owned(), Cells::Integers(vec![1, 2])));
        assert_eq!(inputs.0[1].0, "1");
        let one = table("[0.5, 1.5]").unwrap();
        assert_eq!(one.0[0].1, Cells::Floats(vec![0.5, 1.5]));
    }

    #[test]
    fn a_record_may_lack_a_name() {
        let inputs = table(r#"[{"a": 1}, {"a": 2, "b": "x"}]"#).unwrap();
        assert_eq!(inputs.0[1].1, Cells::Mixed(vec![Value::Null, json!("x")]));
    }

    #[test]
    fn ragged_rows_are_refused() {
        assert!(table("[[1, 2], [3]]").unwrap_err().contains("row 1"));
        assert!(table(r#"[[1], {"a": 1}]"#).unwrap_err().contains("row 1"));
        assert!(table(r#"[{"a": 1}, [1]]"#).unwrap_err().contains("row 1"));
        assert!(table("3").unwrap_err().contains("a list of rows"));
        let split: Split = serde_json::from_str(r#"{"columns": ["a"], "data": [[1, 2]]}"#).unwrap();
        assert!(split.into_inputs().is_err());
    }
}
