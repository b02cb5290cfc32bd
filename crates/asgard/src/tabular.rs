//! Rows in the forms that people have them in, as the columns that the server asks for.

use serde_json::{Map, Value, json};

/// Reads columns, records, pandas' split form, or a whole request, as columns.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn columns_of_json(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    columns(value)
}

fn columns(value: Value) -> Result<Value, String> {
    match value {
        Value::Array(records) => from_records(&records),
        Value::Object(mut map) => {
            for key in ["inputs", "dataframe_split", "dataframe_records"] {
                if let Some(inner) = map.remove(key) {
                    return columns(inner);
                }
            }
            if let (Some(Value::Array(names)), Some(Value::Array(rows))) =
                (map.get("columns"), map.get("data"))
            {
                return from_split(names, rows);
            }
            // One row without lists: {"a": 1, "b": 2}.
            if !map.is_empty() && !map.values().any(Value::is_array) {
                return from_records(&[Value::Object(map)]);
            }
            Ok(Value::Object(map))
        }
        other => Err(format!("{other} is no table")),
    }
}

fn from_records(records: &[Value]) -> Result<Value, String> {
    let mut columns: Map<String, Value> = Map::new();
    for (index, record) in records.iter().enumerate() {
        let Value::Object(record) = record else {
            return Err(format!("row {} is not an object", index + 1));
        };
        for name in record.keys() {
            columns
                .entry(name.clone())
                .or_insert_with(|| json!(vec![Value::Null; index]));
        }
        for (name, column) in &mut columns {
            if let Value::Array(cells) = column {
                cells.push(record.get(name).cloned().unwrap_or(Value::Null));
            }
        }
    }
    Ok(Value::Object(columns))
}

fn from_split(names: &[Value], rows: &[Value]) -> Result<Value, String> {
    let mut columns = vec![Vec::with_capacity(rows.len()); names.len()];
    for (index, row) in rows.iter().enumerate() {
        let cells = row
            .as_array()
            .filter(|cells| cells.len() == names.len())
            .ok_or_else(|| format!("row {} has not {} cells", index + 1, names.len()))?;
        for (column, cell) in columns.iter_mut().zip(cells) {
            column.push(cell.clone());
        }
    }
    let names = names.iter().map(|name| match name {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let columns = columns.into_iter().map(Value::Array);
    Ok(Value::Object(names.zip(columns).collect()))
}

/// Reads CSV (RFC 4180) with the columns' names in its first line. A column of numbers is
/// numbers, one of `true` and `false` booleans, anything else text; an empty cell is null.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn columns_of_csv(text: &str) -> Result<Value, String> {
    let mut rows = records(text)?.into_iter();
    let names = rows.next().ok_or("the CSV is empty")?;
    if let [only] = names.as_slice()
        && let Some(other) = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")]
            .into_iter()
            .find(|(mark, _)| only.contains(*mark))
    {
        return Err(format!(
            "its cells stand between {}, and CSV has commas: save it again with commas (and decimal points)",
            other.1
        ));
    }
    let mut columns: Vec<Vec<String>> = vec![Vec::new(); names.len()];
    for (index, row) in rows.enumerate() {
        if row.len() != names.len() {
            return Err(format!(
                "row {} has {} cells, the first line {}",
                index + 1,
                row.len(),
                names.len()
            ));
        }
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(cell);
        }
    }
    let columns = columns.iter().map(|cells| Value::Array(typed(cells)));
    Ok(Value::Object(names.into_iter().zip(columns).collect()))
}

fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut in_quotes = false;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if in_quotes || cell.is_empty() => in_quotes = !in_quotes,
            ',' if !in_quotes => row.push(std::mem::take(&mut cell)),
            '\n' if !in_quotes => {
                row.push(std::mem::take(&mut cell).trim_end_matches('\r').to_owned());
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if in_quotes {
        return Err("a quoted cell does not end".to_owned());
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows.retain(|row| row.len() > 1 || !row[0].is_empty());
    Ok(rows)
}

fn typed(cells: &[String]) -> Vec<Value> {
    let all = |read: &dyn Fn(&str) -> Option<Value>| -> Option<Vec<Value>> {
        let read = |cell: &String| match cell.trim() {
            "" => Some(Value::Null),
            cell => read(cell),
        };
        cells.iter().map(read).collect()
    };
    all(&|c| c.parse::<i64>().ok().map(Value::from))
        .or_else(|| all(&|c| c.parse::<f64>().ok().map(Value::from)))
        .or_else(|| {
            all(&|c| match c.to_ascii_lowercase().as_str() {
                "true" => Some(json!(true)),
                "false" => Some(json!(false)),
                _ => None,
            })
        })
        .unwrap_or_else(|| cells.iter().map(|cell| json!(cell)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_table_gives_the_same_columns() {
        let expected = json!({"a": [1, 2], "b": ["x", null]});
        for text in [
            r#"{"a": [1, 2], "b": ["x", null]}"#,
            r#"[{"a": 1, "b": "x"}, {"a": 2}]"#,
            r#"{"columns": ["a", "b"], "data": [[1, "x"], [2, null]]}"#,
            r#"{"model_name": "m", "inputs": {"a": [1, 2], "b": ["x", null]}}"#,
            r#"{"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": null}]}"#,
        ] {
            assert_eq!(columns_of_json(text).unwrap(), expected, "{text}");
        }
        assert_eq!(columns_of_json(r#"{"a": 1}"#).unwrap(), json!({"a": [1]}));
        assert!(columns_of_json("3").is_err());
    }

    #[test]
    fn csv_cells_take_the_type_of_their_column() {
        let text = "\u{feff}i,f,b,s,\"q,\"\"x\"\n1,1.5,true,a,\"1\n2\"\r\n,2,False,3,y\n\n";
        assert_eq!(
            columns_of_csv(text).unwrap(),
            json!({"i": [1, null], "f": [1.5, 2.0], "b": [true, false], "s": ["a", "3"], "q,\"x": ["1\n2", "y"]})
        );
        for (text, word) in [("a;b\n1,5;2\n", "semicolons"), ("a\tb\n1\t2\n", "tabs")] {
            assert!(columns_of_csv(text).unwrap_err().contains(word), "{text}");
        }
        assert!(columns_of_csv("a\n1\n").is_ok());
        assert!(columns_of_csv("a,b\n1\n").is_err());
        assert!(columns_of_csv("").is_err());
    }
}
