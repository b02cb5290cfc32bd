//! What an object of the cluster has otherwise than it should. Only fields that asgard sets count.

use serde_json::Value;

/// The fields that differ, each as `path: is X, should be Y`; of variables only where they differ,
/// for a value may be a secret.
pub(super) fn differences(should: &Value, is: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", should, is, &mut found);
    found
}

fn compare(path: &str, should: &Value, is: &Value, found: &mut Vec<String>) {
    match (should, is) {
        (Value::Object(should), is) => {
            for (key, value) in should {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                compare(&path, value, is.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(should), Value::Array(is)) if should.len() == is.len() => {
            for (index, (should, is)) in should.iter().zip(is).enumerate() {
                compare(&format!("{path}[{index}]"), should, is, found);
            }
        }
        // The API server leaves empty lists out.
        (Value::Array(should), Value::Null) if should.is_empty() => {}
        (should, is) if should == is => {}
        _ if hides(path) => found.push(format!("{path}: is not as it should be")),
        (should, is) => found.push(format!(
            "{path}: is {}, should be {}",
            shown(is),
            shown(should)
        )),
    }
}

/// Whether a field holds the variables of a container or the content of a Secret, or a part of these.
fn hides(path: &str) -> bool {
    path.ends_with(".env") || path.contains(".env[") || path == "data" || path.starts_with("data.")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        value => covered(value.clone()).to_string(),
    }
}

/// A value without the variables in it.
fn covered(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, field) in fields {
                *field = match key.as_str() {
                    "env" => Value::from("***"),
                    _ => covered(field.take()),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = covered(item.take());
            }
        }
        _ => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_our_fields_count() {
        let should = json!({ "spec": { "replicas": 2, "ports": [{ "port": 80 }], "egress": [] } });
        let is = json!({ "spec": { "replicas": 2, "ports": [{ "port": 80, "nodePort": 3 }], "more": 1 }, "status": {} });
        assert_eq!(differences(&should, &is), [""; 0]);
        let is = json!({ "spec": { "replicas": 5, "ports": [] } });
        assert_eq!(
            differences(&should, &is),
            [
                "spec.ports: is [], should be [{\"port\":80}]",
                "spec.replicas: is 5, should be 2"
            ]
        );
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let with = |env: Value| json!({ "spec": { "containers": [{ "env": env }] } });
        let should = with(json!([{ "name": "A", "value": "hunter22" }]));
        let other = with(json!([{ "name": "A", "value": "hunter23" }]));
        assert_eq!(
            differences(&should, &other),
            ["spec.containers[0].env[0].value: is not as it should be"]
        );
        let more = with(json!([{ "name": "A", "value": "hunter22" }, {}]));
        assert_eq!(
            differences(&should, &more),
            ["spec.containers[0].env: is not as it should be"]
        );
        let secret = |value: &str| json!({ "data": { "A": value } });
        assert_eq!(
            differences(&secret("aHVudGVyMjI="), &secret("b3RoZXI=")),
            ["data.A: is not as it should be"]
        );
        assert_eq!(
            differences(&secret("aHVudGVyMjI="), &json!({})),
            ["data.A: is not as it should be"]
        );
        // Neither where what holds them is not there.
        let bare = json!({ "spec": { "containers": [] } });
        assert_eq!(
            differences(&should, &bare),
            ["spec.containers: is [], should be [{\"env\":\"***\"}]"]
        );
    }
}
