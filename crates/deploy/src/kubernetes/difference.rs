//! What an object of the cluster has otherwise than it should. Only fields that asgard sets count.

use serde_json::Value;

/// The fields that differ, each as `path: is X, should be Y`.
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
        (should, is) => found.push(format!("{path}: is {}, should be {should}", shown(is))),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        value => value.to_string(),
    }
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
}
