//! Choosing from a REST answer what a GraphQL document asks for.

use serde_json::{Map, Value};

use super::document::Field;
use super::schema::{Kind, kind};

/// The field that every type has: its own name.
const TYPE_NAME: &str = "__typename";

/// Checks that a type has these fields, and they theirs.
///
/// # Errors
/// A message for the caller.
pub(super) fn check(of: &str, fields: &[Field]) -> Result<(), String> {
    for field in fields.iter().filter(|field| field.name != TYPE_NAME) {
        let name = &field.name;
        let kind =
            kind(of, name).ok_or_else(|| format!("Cannot query field '{name}' on type '{of}'."))?;
        match kind {
            Kind::One(inner) | Kind::Many(inner) if field.fields.is_empty() => {
                return Err(format!(
                    "Field '{name}' of type '{inner}' must have a selection of subfields."
                ));
            }
            Kind::One(inner) | Kind::Many(inner) => check(inner, &field.fields)?,
            _ if !field.fields.is_empty() => {
                return Err(format!(
                    "Field '{name}' must not have a selection: it has no subfields."
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The chosen fields of an object of type `of`, each of them present. What the object lacks is
/// written as MLflow does, by protobuf's defaults; an object that is not there is null.
pub(super) fn select(of: &'static str, object: &Value, fields: &[Field]) -> Value {
    let chosen = fields.iter().map(|field| {
        let value = match kind(of, &field.name) {
            Some(kind) => write(kind, &object[snake_case(&field.name)], &field.fields),
            None => Value::from(of),
        };
        (field.key.clone(), value)
    });
    Value::Object(chosen.collect::<Map<_, _>>())
}

fn write(kind: Kind, value: &Value, fields: &[Field]) -> Value {
    match (kind, value) {
        (Kind::One(_), Value::Null) => Value::Null,
        (Kind::One(of), value) => select(of, value, fields),
        (Kind::Many(of), Value::Array(items)) => {
            Value::Array(items.iter().map(|item| select(of, item, fields)).collect())
        }
        (Kind::Texts, Value::Array(_)) => value.clone(),
        (Kind::Many(_) | Kind::Texts, _) => Value::Array(Vec::new()),
        (Kind::Text, Value::Null) => Value::from(""),
        (Kind::Flag, Value::Null) => Value::from(false),
        (Kind::Long, Value::Null) => Value::from("0"),
        (Kind::Long, number) if number.is_number() => Value::from(number.to_string()),
        // REST writes NaN as text.
        (Kind::Double, value) if !value.is_number() => Value::Null,
        (_, value) => value.clone(),
    }
}

/// `runId` is `run_id`: REST's name of a field.
pub(super) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::document::read;
    use super::super::schema::ROOT;
    use super::*;

    #[test]
    fn every_field_is_present_and_written_by_its_type() {
        let query = "{ run { info { runId t: startTime endTime __typename }
            data { metrics { value step } tags { key } } experiment { name } } }";
        let fields = read(query, None, &Map::new()).unwrap();
        let rest = json!({"run": {
            "info": {"run_id": "r", "start_time": 1_700_000_000_000_i64},
            "data": {"metrics": [{"value": "NaN", "step": 3}, {"value": 0.5, "step": -1}]},
        }});
        assert_eq!(
            select("MlflowGetRunResponse", &rest, &fields),
            json!({"run": {
                "info": {"runId": "r", "t": "1700000000000", "endTime": "0", "__typename": "MlflowRunInfo"},
                "data": {"metrics": [{"value": null, "step": "3"}, {"value": 0.5, "step": "-1"}], "tags": []},
                "experiment": null,
            }})
        );
    }

    #[test]
    fn what_a_type_does_not_have_is_refused() {
        for (query, said) in [
            (
                "{ mlflowGetRun { run { info { secret } } } }",
                "'secret' on type 'MlflowRunInfo'",
            ),
            ("{ mlflowGetRun { run } }", "must have a selection"),
            ("{ test { output { x } } }", "must not have a selection"),
            (
                "{ __schema { types { name } } }",
                "'__schema' on type 'Query'",
            ),
        ] {
            let message = check(ROOT, &read(query, None, &Map::new()).unwrap()).unwrap_err();
            assert!(message.contains(said), "{message}");
        }
    }
}
