//! What to ask a model that was just made, out of its signature.

use serde_json::{Map, Value, json};

use crate::client::Client;

/// A model of more columns is asked with a file.
const MOST_COLUMNS: usize = 12;

/// The command that asks a version of a model, with inputs of the right names and types where its
/// signature tells them.
pub(super) async fn predict(client: &Client, name: &str, version: &str) -> String {
    let query = [
        ("name", name.to_owned()),
        ("version", version.to_owned()),
        ("path", "MLmodel".to_owned()),
    ];
    // Only a hint: whoever may not read the model, or has one without a signature, gets another.
    let described = client.text("/model-versions/get-artifact", &query).await;
    let inputs = described.ok().and_then(|yaml| inputs(&yaml));
    match inputs {
        Some(inputs) => format!("asgard predict {name} -d {}", quoted(&inputs.to_string())),
        None => format!("asgard predict {name} -d FILE (its columns, as JSON or CSV)"),
    }
}

/// One row for the signature in an MLmodel.
fn inputs(yaml: &str) -> Option<Value> {
    let model: Value = serde_yaml_ng::from_str(yaml).ok()?;
    let signature = model["signature"]["inputs"].as_str()?;
    let columns: Vec<Value> = serde_json::from_str(signature).ok()?;
    let row = match columns.as_slice() {
        [only] if only["type"] == "tensor" => row_of_tensor(&only["tensor-spec"])?,
        columns => row_of_columns(columns)?,
    };
    Some(Value::Object(row))
}

fn row_of_columns(columns: &[Value]) -> Option<Map<String, Value>> {
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return None;
    }
    let cell = |column: &Value| {
        let value = match column["type"].as_str()? {
            "double" | "float" => json!(0.5),
            "integer" | "long" => json!(1),
            "boolean" => json!(true),
            "string" => json!("text"),
            "datetime" => json!("2025-01-31T00:00:00"),
            _ => return None,
        };
        Some((column["name"].as_str()?.to_owned(), json!([value])))
    };
    columns.iter().map(cell).collect()
}

/// A table of numbers without names: the order of the columns counts.
fn row_of_tensor(tensor: &Value) -> Option<Map<String, Value>> {
    let (rows, columns) = match tensor["shape"].as_array()?.as_slice() {
        [rows, columns] => (rows.as_i64()?, columns.as_u64()?),
        _ => return None,
    };
    let numbers = ["float", "int"].into_iter().any(|kind| {
        tensor["dtype"]
            .as_str()
            .is_some_and(|d| d.starts_with(kind))
    });
    if rows != -1 || !numbers || columns == 0 || columns > MOST_COLUMNS as u64 {
        return None;
    }
    let column = |number| (format!("feature_{number}"), json!([1]));
    Some((1..=columns).map(column).collect())
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{inputs, quoted};

    fn of(signature: &str) -> Option<String> {
        let yaml = format!("flavors: {{}}\nsignature:\n  inputs: '{signature}'\n  outputs: null\n");
        inputs(&yaml).map(|inputs| inputs.to_string())
    }

    #[test]
    fn a_row_has_the_names_and_types_of_the_signature() {
        let columns = r#"[{"type": "double", "name": "age", "required": true}, {"type": "string", "name": "plan", "required": true}]"#;
        let row = of(columns).unwrap();
        assert_eq!(row, r#"{"age":[0.5],"plan":["text"]}"#);
        let tensor =
            r#"[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]"#;
        assert_eq!(of(tensor).unwrap(), r#"{"feature_1":[1],"feature_2":[1]}"#);
    }

    #[test]
    fn what_has_no_small_table_has_no_row() {
        let image =
            r#"[{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 28, 28]}}]"#;
        let object = r#"[{"type": "object", "name": "o", "properties": {}}]"#;
        for signature in ["[]", "", image, object] {
            assert_eq!(of(signature), None, "{signature}");
        }
        assert_eq!(inputs("flavors: {}\n"), None);
        assert_eq!(inputs(": not yaml ["), None);
    }

    #[test]
    fn a_quote_stays_one_word() {
        assert_eq!(quoted("{\"it's\": [1]}"), r#"'{"it'\''s": [1]}'"#);
    }
}
