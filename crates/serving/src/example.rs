//! The input example that a model was logged with, as a request.

use serde::Deserialize;
use serde_json::Value;

use crate::inputs::{Cells, Inputs};

/// Reads an `input_example.json` of a table, or a list of rows for an array.
///
/// MLflow writes `{"columns": [...], "data": [[...], ...]}` for tables (`dataframe_split`); arrays
/// come as `{"inputs": [[...], ...]}` or bare rows, whose columns have no names.
pub(crate) fn parse(text: &str) -> Option<Inputs> {
    let mut content: Value = serde_json::from_str(text).ok()?;
    let rows = match content.get_mut("data").or(None) {
        Some(data) => data.take(),
        None => match content.get_mut("inputs") {
            Some(inputs) => inputs.take(),
            None => content.take(),
        },
    };
    let Value::Array(rows) = rows else {
        return None;
    };
    let width = rows.first()?.as_array()?.len();
    let names: Vec<String> = match content.get("columns") {
        Some(columns) => columns
            .as_array()?
            .iter()
            .map(|name| {
                name.as_str()
                    .map_or_else(|| name.to_string(), str::to_owned)
            })
            .collect(),
        None => (0..width).map(|at| at.to_string()).collect(),
    };
    let column = |at: usize| -> Option<Cells> {
        let values = rows.iter().map(|row| row.get(at).cloned());
        Cells::deserialize(Value::Array(values.collect::<Option<_>>()?)).ok()
    };
    let columns = names.into_iter().enumerate();
    columns
        .map(|(at, name)| Some((name, column(at)?)))
        .collect::<Option<Vec<_>>>()
        .map(Inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_an_array_are_columns() {
        let table = parse(r#"{"columns": ["b", "a"], "data": [[1, "x"], [2, "y"]]}"#).unwrap();
        assert_eq!(table.0[0], ("b".to_owned(), Cells::Integers(vec![1, 2])));
        assert_eq!(table.0[1].0, "a");
        let array = parse(r#"{"inputs": [[1.5, 2.5]]}"#).unwrap();
        assert_eq!(array.0[1], ("1".to_owned(), Cells::Floats(vec![2.5])));
    }

    #[test]
    fn what_is_no_rows_is_no_example() {
        for other in [
            "",
            "3",
            r#"{"prompt": "hello"}"#,
            "[]",
            r#"{"columns": ["a"], "data": [1]}"#,
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
