//! Reading the fields of a request, one by one.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use web::{FieldError, json_mistake};

use super::Source;
use crate::config::{Config, REPLICAS_MAX};
use crate::deployment::{Autoscale, Target};

/// Fields that a request may have beside those of a training upload.
const FIELDS: [&str; 12] = [
    "model_name",
    "model_version",
    "namespace",
    "replicas",
    "resources",
    "target",
    "canary_percent",
    "image",
    "autoscale",
    "environment",
    "skip_script_check",
    "training_resources",
];

/// Fields of a training upload that make sense only with a script.
const TRAINING: [&str; 11] = [
    "script_name",
    "script_content",
    "script_encoding",
    "experiment_name",
    "requirements",
    "environment_vars",
    "timeout",
    "tags",
    "autolog",
    "python_version",
    "require_model",
];

/// The most variables: their names have to fit into one of their own.
const VARIABLES: usize = 200;

/// Takes fields out of a body and collects what is wrong with them.
pub(super) struct Reader {
    pub(super) body: Map<String, Value>,
    pub(super) wrong: Vec<FieldError>,
}

impl Reader {
    fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.wrong.push(FieldError::body([field], message));
    }

    pub(super) fn refuse_unknown(&mut self) {
        let known = |key: &str| FIELDS.contains(&key) || TRAINING.contains(&key);
        let unknown: Vec<String> = self.body.keys().filter(|k| !known(k)).cloned().collect();
        for (index, key) in unknown.iter().enumerate() {
            let message = match index {
                0 => format!(
                    "unknown field; the fields are {}, and with a script {}",
                    FIELDS.join(", "),
                    TRAINING.join(", ")
                ),
                _ => "unknown field".to_owned(),
            };
            self.refuse(key, message);
        }
    }

    /// A field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.body.remove(name).filter(|v| !v.is_null())?;
        if value.as_str().is_some_and(|text| text.contains('\0')) {
            self.refuse(name, "holds a NUL character");
            return None;
        }
        serde_json::from_value(value)
            .map_err(|error| self.refuse(name, json_mistake(&error)))
            .ok()
    }

    pub(super) fn within(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        let number: u32 = self.optional(name)?;
        if !(least..=most).contains(&number) {
            self.refuse(
                name,
                format!("must be from {least} to {most}, not {number}"),
            );
            return None;
        }
        Some(number)
    }

    pub(super) fn model_name(&mut self) -> String {
        let name: Option<String> = self.optional("model_name");
        match name {
            Some(name) if !name.trim().is_empty() => name,
            Some(_) => {
                self.refuse("model_name", "this field must not be empty");
                String::new()
            }
            // One that could not be read has been refused already.
            None if self.wrong.iter().any(|w| w.loc[1..] == ["model_name"]) => String::new(),
            None => {
                self.refuse("model_name", "this field is required");
                String::new()
            }
        }
    }

    /// A name that Kubernetes takes too (RFC 1123 label).
    pub(super) fn namespace(&mut self) -> String {
        const DEFAULT: &str = "asgard";
        let name: String = self.optional("namespace").unwrap_or(DEFAULT.to_owned());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=63).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !good {
            self.refuse(
                "namespace",
                format!("{name:?} is no namespace: 1 to 63 of a-z, 0-9 and -, the ends being no -"),
            );
        }
        name
    }

    pub(super) fn target(&mut self, config: &Config) -> Target {
        let target = self.optional("target").unwrap_or_else(|| config.target());
        if target == Target::Kubernetes && !config.kubernetes.is_set() {
            self.refuse(
                "target",
                "this server has no cluster; set deploy.kubernetes.kubeconfig to a kubeconfig file, or deploy.kubernetes.in_cluster = true where it runs in a pod",
            );
        }
        if target == Target::Local {
            for field in ["image", "autoscale"] {
                if self.has(field) {
                    self.refuse(field, "only the target kubernetes has it");
                }
            }
        }
        target
    }

    /// An image by its digest: what a tag names may change under a running deployment.
    pub(super) fn image(&mut self) -> Option<String> {
        let image: String = self.optional("image")?;
        let digest = image.split_once("@sha256:");
        let good = digest.is_some_and(|(name, hex)| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"./:_-".contains(&b);
            let plain = !name.is_empty() && name.bytes().all(allowed);
            plain && hex.len() == 64 && hex.bytes().all(|b| b"0123456789abcdef".contains(&b))
        });
        if !good {
            self.refuse(
                "image",
                format!("{image:?} names no digest; write REGISTRY/NAME@sha256:DIGEST, for a tag may move"),
            );
        }
        Some(image)
    }

    /// Variables of the model's code. The job that trains a script gets them too.
    pub(super) fn environment(&mut self) -> BTreeMap<String, String> {
        let Some(variables) = self.body.get("environment").filter(|v| !v.is_null()) else {
            return BTreeMap::new();
        };
        let read: Result<BTreeMap<String, String>, _> = serde_json::from_value(variables.clone());
        let refused = self.wrong.len();
        let variables = read.unwrap_or_else(|error| {
            self.refuse("environment", json_mistake(&error));
            BTreeMap::new()
        });
        if variables.len() > VARIABLES {
            self.refuse("environment", format!("at most {VARIABLES} variables"));
        }
        for (name, problem) in jobs::check_variables(&variables) {
            let told = format!("{name} {problem}").trim_start().to_owned();
            let path = ["environment", name.as_str()];
            self.wrong.push(FieldError::body(path, told));
        }
        if self.wrong.len() > refused {
            // Told once: what trains the script is not to refuse it again.
            self.body.remove("environment");
        }
        variables
    }

    pub(super) fn autoscale(&mut self) -> Option<Autoscale> {
        let autoscale: Autoscale = self.optional("autoscale")?;
        let Autoscale {
            min_replicas: min,
            max_replicas: max,
            cpu_percent: cpu,
        } = autoscale;
        if min < 1 || max < min || max > REPLICAS_MAX || !(1..=100).contains(&cpu) {
            self.refuse(
                "autoscale",
                format!("needs 1 <= min_replicas <= max_replicas <= {REPLICAS_MAX} and cpu_percent from 1 to 100"),
            );
        }
        if self.has("canary_percent") {
            self.refuse(
                "autoscale",
                "the share of a canary is made by the number of its replicas; send autoscale or canary_percent",
            );
        }
        Some(autoscale)
    }

    /// Memory and processors of one replica.
    pub(super) fn resources(&mut self) -> (Option<u64>, Option<f64>) {
        let Some(mut resources) = self.optional::<Map<String, Value>>("resources") else {
            return (None, None);
        };
        let memory = resources.remove("memory").filter(|v| !v.is_null());
        let cpus = resources.remove("cpus").filter(|v| !v.is_null());
        if let Some(other) = resources.keys().next() {
            self.refuse(
                "resources",
                format!("{other:?} is unknown; it has memory and cpus"),
            );
        }
        let memory = memory.and_then(|value| {
            let bytes = match &value {
                Value::Number(n) => n.as_u64(),
                Value::String(text) => jobs::parse_memory(text),
                _ => None,
            };
            if bytes.is_none_or(|b| b < 64 << 20) {
                self.refuse(
                    "resources",
                    format!("memory is {value}; write it as \"512Mi\" or in bytes, at least 64Mi"),
                );
            }
            bytes
        });
        let cpus = cpus.and_then(|value| {
            let cpus = value.as_f64().filter(|c| *c > 0.0 && *c <= 1024.0);
            if cpus.is_none() {
                self.refuse(
                    "resources",
                    format!("cpus is {value}; write a number such as 1.5"),
                );
            }
            cpus
        });
        (memory, cpus)
    }

    pub(super) fn source(&mut self, model_name: &str) -> Source {
        if !self.has("script_content") {
            self.refuse_training();
            self.body.remove("environment");
            let version = self.optional::<Value>("model_version");
            return Source::Registered(version.map(|version| match version {
                Value::String(text) => text,
                other => other.to_string(),
            }));
        }
        if self.has("model_version") {
            self.refuse(
                "model_version",
                "a script makes a new version; send either script_content or model_version",
            );
        }
        Source::Script(self.training(model_name))
    }

    fn has(&self, name: &str) -> bool {
        self.body.get(name).is_some_and(|value| !value.is_null())
    }

    /// Refuses what only a script could use. Tools send some fields always; those and empty ones
    /// mean nothing.
    fn refuse_training(&mut self) {
        const ALWAYS_SENT: [&str; 2] = ["experiment_name", "timeout"];
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        for field in TRAINING.into_iter().filter(|f| !ALWAYS_SENT.contains(f)) {
            if self.body.get(field).is_some_and(|value| !empty(value)) {
                self.refuse(
                    field,
                    "only a script is trained; send script_content, or leave this field out to deploy a registered model",
                );
            }
        }
    }

    /// The body of the upload that trains the script.
    fn training(&mut self, model_name: &str) -> Map<String, Value> {
        let mut training = Map::new();
        for field in TRAINING {
            if let Some(value) = self.body.remove(field) {
                training.insert(field.to_owned(), value);
            }
        }
        if let Some(Value::Object(variables)) = self.body.remove("environment") {
            let own = training.remove("environment_vars").unwrap_or_default();
            training.insert("environment_vars".to_owned(), with_own(variables, own));
        }
        if let Some(resources) = self.body.remove("training_resources") {
            training.insert("resources".to_owned(), resources);
        }
        for field in ["script_name", "experiment_name"] {
            if training.get(field).is_none_or(Value::is_null) {
                training.insert(field.to_owned(), Value::from(model_name));
            }
        }
        training.insert("model_name".to_owned(), Value::from(model_name));
        training.insert("require_model".to_owned(), Value::Bool(true));
        training
    }
}

/// The variables of a deployment as its script's job gets them: those that are its own count more.
fn with_own(mut variables: Map<String, Value>, own: Value) -> Value {
    match own {
        Value::Object(own) => variables.extend(own),
        Value::Null => {}
        // No object: the job refuses it.
        wrong => return wrong,
    }
    Value::Object(variables)
}
