//! The Secret that holds the variables of a deployment's model, and how its pods take them from it.
//! Each deployment has its own, so that one that is rolled back to has the values that it had.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use serving::Variables;

use super::workload::own;
use super::workload_name;
use crate::environment::Opened;
use crate::kubernetes::object::{Kind, Object};

/// The Secret, where there are variables.
pub(super) fn secret(deployment: &Opened) -> Option<Object> {
    let variables = deployment.variables();
    if variables.is_empty() {
        return None;
    }
    let encoded = |(name, value): (&String, &String)| (name.clone(), json!(STANDARD.encode(value)));
    let data: Map<String, Value> = variables.iter().map(encoded).collect();
    let content = json!({ "type": "Opaque", "data": data });
    Some(own(Kind::Secret, deployment, Map::new(), content))
}

/// The variables in a container's `env`: by reference, so that whoever may read Deployments does not
/// read them. What else somebody puts into the Secret does not reach the pods.
pub(super) fn entries(deployment: &Opened) -> Vec<Value> {
    let secret = workload_name(&deployment.order.model_name, &deployment.id);
    let entry = |name: &String| {
        let key = json!({ "name": secret, "key": name });
        json!({ "name": name, "valueFrom": { "secretKeyRef": key } })
    };
    let mut entries: Vec<Value> = deployment.variables().keys().map(entry).collect();
    let names = Variables::from(deployment.variables().clone()).names();
    entries.extend(names.map(|(name, value)| json!({ "name": name, "value": value })));
    entries
}
