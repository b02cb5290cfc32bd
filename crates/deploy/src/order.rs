//! A request to deploy: reading its fields, saying all that is wrong with it at once.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use web::FieldError;

use crate::check;
use crate::config::{Config, REPLICAS_MAX};
use crate::deployment::Target;
use crate::error::Error;

/// Fields that a request may have beside those of a training upload.
const FIELDS: [&str; 10] = [
    "model_name",
    "model_version",
    "namespace",
    "replicas",
    "resources",
    "target",
    "canary_percent",
    "skip_script_check",
    "training_resources",
    "environment",
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

/// A checked request, before its model's version is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) namespace: String,
    pub(crate) model_name: String,
    pub(crate) target: Target,
    pub(crate) source: Source,
    pub(crate) replicas: u32,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) canary_percent: Option<u32>,
    hash: String,
}

/// Where the model comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The body of a training upload, checked.
    Script(Map<String, Value>),
    /// The registry: a number, `@alias` or stage; absent: the latest version.
    Registered(Option<String>),
}

impl Request {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Error::Fields`] with every field that is wrong, [`Error::Script`] for a script that
    /// leaves no model.
    pub(crate) fn parse(
        body: Map<String, Value>,
        config: &Config,
        jobs: &jobs::Config,
    ) -> Result<Self, Error> {
        let hash = hash(&body);
        let mut reader = Reader {
            body,
            wrong: Vec::new(),
        };
        reader.refuse_unknown();
        let skip_check = reader.optional("skip_script_check").unwrap_or(false);
        let (memory_bytes, cpus) = reader.resources();
        let model_name = reader.model_name();
        let request = Self {
            namespace: reader.namespace(),
            target: reader.optional("target").unwrap_or_default(),
            replicas: reader
                .within("replicas", 1, REPLICAS_MAX)
                .unwrap_or(config.replicas),
            memory_bytes: memory_bytes.or(config.memory_default_bytes),
            cpus,
            canary_percent: reader.within("canary_percent", 1, 99),
            source: reader.source(&model_name),
            model_name,
            hash,
        };
        request.check(reader.wrong, skip_check, jobs)
    }

    /// Checks what a script brings, as an upload would.
    fn check(
        self,
        mut wrong: Vec<FieldError>,
        skip_check: bool,
        jobs: &jobs::Config,
    ) -> Result<Self, Error> {
        let Source::Script(training) = &self.source else {
            return if wrong.is_empty() {
                Ok(self)
            } else {
                Err(Error::Fields(wrong))
            };
        };
        let submission = match jobs::Submission::parse(training.clone(), jobs) {
            Ok(submission) => submission,
            Err(jobs::Error::Fields(more)) => {
                wrong.extend(more);
                return Err(Error::Fields(wrong));
            }
            Err(error) => return Err(error.into()),
        };
        if !wrong.is_empty() {
            return Err(Error::Fields(wrong));
        }
        if !skip_check && !submission.request.autolog {
            check::script(&submission.script).map_err(Error::Script)?;
        }
        Ok(self)
    }

    /// What tells whether two requests ask for the same.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

fn hash(body: &Map<String, Value>) -> String {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    format!("{:x}", Sha256::digest(bytes))
}

/// Takes fields out of a body and collects what is wrong with them.
struct Reader {
    body: Map<String, Value>,
    wrong: Vec<FieldError>,
}

impl Reader {
    fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.wrong.push(FieldError::body([field], message));
    }

    fn refuse_unknown(&mut self) {
        let known = |key: &str| FIELDS.contains(&key) || TRAINING.contains(&key);
        let unknown: Vec<String> = self.body.keys().filter(|k| !known(k)).cloned().collect();
        for key in unknown {
            let message = format!(
                "unknown field; the fields are {}, and with a script {}",
                FIELDS[..7].join(", "),
                TRAINING.join(", ")
            );
            self.refuse(&key, message);
        }
    }

    /// A field that may be absent or null.
    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.body.remove(name).filter(|v| !v.is_null())?;
        serde_json::from_value(value)
            .map_err(|error| self.refuse(name, error.to_string()))
            .ok()
    }

    fn within(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
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

    fn model_name(&mut self) -> String {
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
    fn namespace(&mut self) -> String {
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

    /// Memory and processors of one replica.
    fn resources(&mut self) -> (Option<u64>, Option<f64>) {
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

    fn source(&mut self, model_name: &str) -> Source {
        if !self.has("script_content") {
            self.refuse_training();
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
            training
                .entry("environment_vars")
                .or_insert(Value::Object(variables));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: Value) -> Result<Request, Error> {
        let Value::Object(body) = body else {
            panic!("an object");
        };
        Request::parse(body, &Config::default(), &jobs::Config::default())
    }

    fn fields(body: Value) -> Vec<String> {
        match parse(body).unwrap_err() {
            Error::Fields(fields) => fields.iter().map(|f| f.loc[1].clone()).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_registered_model_needs_only_its_name() {
        let request = parse(json!({"model_name": "iris", "model_version": 3})).unwrap();
        assert!(matches!(&request.source, Source::Registered(Some(v)) if v == "3"));
        assert_eq!(
            (request.namespace.as_str(), request.replicas),
            ("asgard", 2)
        );
        let encoded = json!({"model_name": "iris", "model_version": "@prod", "requirements": [],
            "environment_vars": {}, "timeout": 300, "tags": {}, "replicas": 3});
        assert_eq!(parse(encoded).unwrap().replicas, 3);
    }

    #[test]
    fn a_script_is_checked_as_an_upload_is() {
        let script = "import mlflow\nmlflow.sklearn.log_model(m, 'model')";
        let request = parse(json!({"model_name": "iris", "script_content": script})).unwrap();
        let Source::Script(training) = request.source else {
            panic!("a script");
        };
        assert_eq!(training["experiment_name"], "iris");
        assert_eq!(training["require_model"], true);
        let wrong =
            json!({"model_name": "iris", "script_content": script, "timeout": 5, "replicas": 11});
        assert_eq!(fields(wrong), ["replicas", "timeout"]);
    }

    #[test]
    fn a_script_without_a_model_is_refused_before_it_runs() {
        let body = json!({"model_name": "m", "script_content": "print(1)"});
        assert!(matches!(
            parse(body).unwrap_err(),
            Error::Script(check::Missing::Mlflow)
        ));
        for pass in ["skip_script_check", "autolog"] {
            let mut body = json!({"model_name": "m", "script_content": "import mine"});
            body[pass] = json!(true);
            parse(body).unwrap();
        }
    }

    #[test]
    fn wrong_fields_are_all_named() {
        let body = json!({"model_name": " ", "replicas": 0, "namespace": "A_b", "canary_percent": 100,
            "resources": {"memory": "much"}, "target": "moon", "replica": 1, "requirements": ["x"]});
        let mut named = fields(body);
        named.sort();
        assert_eq!(
            named,
            [
                "canary_percent",
                "model_name",
                "namespace",
                "replica",
                "replicas",
                "requirements",
                "resources",
                "target"
            ]
        );
        assert_eq!(fields(json!({})), ["model_name"]);
    }
}
