//! Values as Python writes them.

use serde_json::Value;

/// A value as a Python literal, over several lines where it is long.
pub(crate) fn literal(value: &Value) -> String {
    nested(value, 0)
}

/// The longest line before a list or dictionary is broken.
const WIDTH: usize = 96;

fn nested(value: &Value, depth: usize) -> String {
    let short = inline(value);
    if depth * 4 + short.len() <= WIDTH {
        return short;
    }
    let pad = "    ".repeat(depth + 1);
    let end = "    ".repeat(depth);
    match value {
        Value::Object(items) => {
            let lines = items
                .iter()
                .map(|(key, value)| format!("{pad}{}: {},\n", text(key), nested(value, depth + 1)));
            format!("{{\n{}{end}}}", lines.collect::<String>())
        }
        // Long lists are columns of data: nobody wants a line for each value.
        Value::Array(items) if items.iter().any(|v| v.is_array() || v.is_object()) => {
            let lines = items
                .iter()
                .map(|value| format!("{pad}{},\n", nested(value, depth + 1)));
            format!("[\n{}{end}]", lines.collect::<String>())
        }
        _ => short,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(string),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(items) => {
            let items = items
                .iter()
                .map(|(key, value)| format!("{}: {}", text(key), inline(value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text: what JSON escapes, Python reads the same way.
fn text(string: &str) -> String {
    Value::from(string).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::literal;

    #[test]
    fn values_are_written_as_python_reads_them() {
        let value = json!({"a": [1, 2.5, true, null], "b\"\n": "\\"});
        assert_eq!(
            literal(&value),
            r#"{"a": [1, 2.5, True, None], "b\"\n": "\\"}"#
        );
    }

    #[test]
    fn a_long_dictionary_has_a_line_for_each_key() {
        let value = json!({"first": "x".repeat(60), "second": "y".repeat(60)});
        assert_eq!(literal(&value).lines().count(), 4);
    }
}
