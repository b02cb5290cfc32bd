//! An upload: reading its fields, saying all that is wrong with it at once, making it a job.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use web::{FieldError, IdempotencyKey, json_mistake};

use crate::config::{Config, TIMEOUT_MIN_S};
use crate::error::Error;
use crate::job::{JobRequest, Problem};
use crate::memory;
use crate::script::{self, ScriptEncoding};
use crate::variables;

/// A checked upload.
#[derive(Debug, Clone)]
pub struct Submission {
    pub request: JobRequest,
    pub script: String,
    /// The same key from the same caller means the same job.
    pub idempotency_key: Option<String>,
    /// What was let pass but should be known.
    pub warnings: Vec<Problem>,
}

/// The fields of an upload.
const FIELDS: [&str; 14] = [
    "script_name",
    "script_content",
    "script_encoding",
    "experiment_name",
    "model_name",
    "requirements",
    "environment_vars",
    "timeout",
    "tags",
    "require_model",
    "autolog",
    "python_version",
    "resources",
    "idempotency_key",
];

const NAME_LIMIT: usize = 250;
const TAG_VALUE_LIMIT: usize = 5000;
const LIST_LIMIT: usize = 200;

impl Submission {
    /// Reads the body of an upload.
    ///
    /// # Errors
    /// [`Error::Fields`] with every field that is wrong.
    pub fn parse(body: Map<String, Value>, config: &Config) -> Result<Self, Error> {
        let unknown: Vec<String> = body
            .keys()
            .filter(|key| !FIELDS.contains(&key.as_str()))
            .cloned()
            .collect();
        let mut reader = Reader {
            body,
            wrong: Vec::new(),
        };
        for (name, meant) in unknown.iter().filter_map(|name| Some((name, meant(name)?))) {
            reader.refuse(&[name], format!("unknown field; did you mean {meant:?}?"));
        }
        let encoding: ScriptEncoding = reader.optional("script_encoding").unwrap_or_default();
        let content: String = reader.required("script_content");
        let script = reader.script(&content, encoding, config);
        let script_name = reader.name("script_name", &[]);
        let request = JobRequest {
            script_file: script::file_name(&script_name),
            script_name,
            experiment_name: reader.name("experiment_name", &[]),
            model_name: reader.name("model_name", &['/', ':']),
            requirements: reader.requirements(),
            environment_vars: reader.variables(),
            timeout_s: reader.timeout(config),
            tags: reader.tags(),
            require_model: reader.optional("require_model").unwrap_or_default(),
            autolog: reader.optional("autolog").unwrap_or_default(),
            python: reader.python(),
            memory_bytes: reader.memory(config),
            cpus: reader.cpus(),
        };
        let idempotency_key = reader.idempotency_key();
        if !reader.wrong.is_empty() {
            return Err(Error::Fields(reader.wrong));
        }
        Ok(Self {
            request,
            script,
            idempotency_key,
            warnings: unknown.iter().map(|name| unknown_field(name)).collect(),
        })
    }

    /// What tells whether two uploads ask for the same.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(serde_json::to_vec(&self.request).unwrap_or_default());
        hasher.update(self.script.as_bytes());
        format!("{:x}", hasher.finalize())
    }
}

/// The field that a mistyped name means.
fn meant(name: &str) -> Option<&'static str> {
    let distance = |field: &&str| strsim::damerau_levenshtein(name, field);
    let nearest = FIELDS.into_iter().min_by_key(distance)?;
    let near = if name.len() <= 5 { 1 } else { 2 };
    (distance(&nearest) <= near).then_some(nearest)
}

fn unknown_field(name: &str) -> Problem {
    Problem {
        code: "unknown_field".to_owned(),
        error: "Unknown field".to_owned(),
        message: format!("the field {name:?} of the upload is not known and was ignored"),
        details: None,
        help: Some(format!("the fields are: {}", FIELDS.join(", "))),
    }
}

/// Takes fields out of a body and collects what is wrong with them.
struct Reader {
    body: Map<String, Value>,
    wrong: Vec<FieldError>,
}

impl Reader {
    fn refuse(&mut self, path: &[&str], message: impl Into<String>) {
        self.wrong
            .push(FieldError::body(path.iter().copied(), message));
    }

    /// A field that may be absent or null.
    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.body.remove(name).filter(|v| !v.is_null())?;
        serde_json::from_value(value)
            .map_err(|error| self.refuse(&[name], json_mistake(&error)))
            .ok()
    }

    /// A field that must be there; wrong ones read as the default and are reported.
    fn required<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        if self.body.get(name).is_none_or(Value::is_null) {
            self.refuse(&[name], "this field is required");
            return T::default();
        }
        self.optional(name).unwrap_or_default()
    }

    fn was_refused(&self, name: &str) -> bool {
        self.wrong
            .iter()
            .any(|error| error.loc.get(1).is_some_and(|loc| loc == name))
    }

    fn name(&mut self, field: &str, forbidden: &[char]) -> String {
        let name: String = self.required(field);
        if self.was_refused(field) {
            return name;
        }
        if name.trim().is_empty() {
            self.refuse(&[field], "this field must not be empty");
        } else if name.chars().count() > NAME_LIMIT {
            self.refuse(&[field], format!("at most {NAME_LIMIT} characters"));
        } else if name.chars().any(char::is_control) {
            self.refuse(&[field], "no line breaks or other control characters");
        } else if let Some(c) = name.chars().find(|c| forbidden.contains(c)) {
            self.refuse(&[field], format!("{c:?} cannot be part of this name"));
        }
        name
    }

    fn script(&mut self, content: &str, encoding: ScriptEncoding, config: &Config) -> String {
        if self.was_refused("script_content") {
            return String::new();
        }
        match script::decode(content, encoding) {
            Ok(script) if script.len() > config.script_limit_bytes => {
                let limit = config.script_limit_bytes;
                self.refuse(
                    &["script_content"],
                    format!("the script is larger than {limit} bytes (jobs.script_limit_bytes)"),
                );
                String::new()
            }
            Ok(script) => script,
            Err(problem) => {
                self.refuse(&["script_content"], problem);
                String::new()
            }
        }
    }

    fn requirements(&mut self) -> Option<Vec<String>> {
        let list: Vec<String> = self.optional("requirements")?;
        let list: Vec<String> = list
            .into_iter()
            .map(|entry| entry.trim().to_owned())
            .filter(|entry| !entry.is_empty())
            .collect();
        if list.len() > LIST_LIMIT {
            self.refuse(&["requirements"], format!("at most {LIST_LIMIT} entries"));
        }
        for (index, entry) in list.iter().enumerate() {
            let one = std::slice::from_ref(entry);
            if let Err(error) = environments::Environments::parse_requirements(one) {
                self.refuse(&["requirements", &index.to_string()], error.to_string());
            }
        }
        // An empty list asks for nothing of its own, like an absent one.
        (!list.is_empty()).then_some(list)
    }

    fn variables(&mut self) -> BTreeMap<String, String> {
        let variables: BTreeMap<String, String> =
            self.optional("environment_vars").unwrap_or_default();
        for (name, problem) in variables::check(&variables) {
            self.refuse(&["environment_vars", &name], format!("{name} {problem}"));
        }
        variables
    }

    fn timeout(&mut self, config: &Config) -> u32 {
        let max = config.timeout_max_s;
        let Some(seconds) = self.optional::<f64>("timeout") else {
            return config.timeout_default_s;
        };
        if seconds < f64::from(TIMEOUT_MIN_S) || seconds > f64::from(max) || seconds.is_nan() {
            self.refuse(
                &["timeout"],
                format!(
                    "must be between {TIMEOUT_MIN_S} and {max} seconds, not {seconds}; a server's jobs.timeout_max_s raises the upper bound"
                ),
            );
            return config.timeout_default_s;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked above"
        )]
        {
            seconds.ceil() as u32
        }
    }

    fn idempotency_key(&mut self) -> Option<String> {
        let key: String = self.optional("idempotency_key")?;
        if !IdempotencyKey::allows(&key) {
            self.refuse(&["idempotency_key"], IdempotencyKey::RULE);
        }
        Some(key)
    }

    fn tags(&mut self) -> BTreeMap<String, String> {
        let tags: BTreeMap<String, String> = self.optional("tags").unwrap_or_default();
        if tags.len() > LIST_LIMIT {
            self.refuse(&["tags"], format!("at most {LIST_LIMIT} tags"));
        }
        for (key, value) in &tags {
            if key.is_empty() || key.len() > NAME_LIMIT || key.chars().any(char::is_control) {
                self.refuse(
                    &["tags", key],
                    format!("a tag's key has 1 to {NAME_LIMIT} characters"),
                );
            } else if key.starts_with("asgard.") {
                self.refuse(
                    &["tags", key],
                    "keys that start with asgard. belong to the platform",
                );
            } else if let Err(error) = tracking::check_tag_key(key) {
                // Its run would refuse it when the script has ended.
                self.refuse(&["tags", key], error.to_string());
            } else if value.len() > TAG_VALUE_LIMIT || value.contains('\0') {
                self.refuse(
                    &["tags", key],
                    format!("a tag's value has at most {TAG_VALUE_LIMIT} bytes and no NUL"),
                );
            }
        }
        tags
    }

    fn python(&mut self) -> Option<String> {
        let version: String = self.optional("python_version")?;
        let mut parts = version.split('.');
        let plain = parts.next() == Some("3")
            && parts.clone().count() <= 2
            && parts.clone().count() >= 1
            && parts.all(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
        if !plain {
            self.refuse(
                &["python_version"],
                format!("{version:?} is not a Python version such as \"3.11\""),
            );
        }
        Some(version)
    }

    fn memory(&mut self, config: &Config) -> Option<u64> {
        let resources = self.body.get_mut("resources")?.as_object_mut();
        let value = resources?.remove("memory").filter(|v| !v.is_null())?;
        let bytes = match &value {
            Value::Number(n) => n.as_u64(),
            Value::String(text) => memory::parse(text),
            _ => None,
        };
        let Some(bytes) = bytes else {
            self.refuse(
                &["resources", "memory"],
                format!("{value} is not an amount of memory such as \"512Mi\", \"2GB\" or a number of bytes"),
            );
            return None;
        };
        let smallest = 64 << 20;
        let largest = config.memory_max_bytes.unwrap_or(u64::MAX);
        if bytes < smallest || bytes > largest {
            self.refuse(
                &["resources", "memory"],
                format!(
                    "{} is not between {} and {} (jobs.memory_max_bytes)",
                    memory::display(bytes),
                    memory::display(smallest),
                    memory::display(largest)
                ),
            );
        }
        Some(bytes)
    }

    fn cpus(&mut self) -> Option<f64> {
        let value = self.body.get("resources")?;
        if value.is_null() {
            return None;
        }
        let Some(resources) = value.as_object() else {
            self.refuse(
                &["resources"],
                "must be an object such as {\"memory\": \"2Gi\", \"cpus\": 1.5}",
            );
            return None;
        };
        let unknown = resources
            .keys()
            .find(|k| !matches!(k.as_str(), "cpus"))
            .cloned();
        let value = resources.get("cpus").cloned().filter(|v| !v.is_null());
        if let Some(name) = unknown {
            self.refuse(&["resources", &name], "the resources are memory and cpus");
        }
        let value = value?;
        let cpus = value
            .as_f64()
            .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        match cpus {
            Some(cpus) if (0.05..=1024.0).contains(&cpus) => Some(cpus),
            _ => {
                self.refuse(
                    &["resources", "cpus"],
                    format!("{value} is not a number of CPUs such as 1.5"),
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<Submission, Error> {
        let Value::Object(map) = body else {
            panic!("an object")
        };
        Submission::parse(map, &Config::default())
    }

    fn minimal() -> Value {
        json!({ "script_name": "train", "script_content": "print(1)", "experiment_name": "e", "model_name": "m" })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = minimal();
        body[field] = value;
        body
    }

    fn refused(body: Value) -> Vec<String> {
        match parse(body) {
            Err(Error::Fields(fields)) => fields.iter().map(|f| f.loc.join(".")).collect(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn five_fields_are_enough() {
        let s = parse(minimal()).unwrap();
        assert_eq!(s.request.timeout_s, 300);
        assert_eq!(s.request.script_file, "train.py");
        assert_eq!(s.request.requirements, None);
        assert!(s.warnings.is_empty());
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let mut body = minimal();
        for name in [
            "requirements",
            "environment_vars",
            "timeout",
            "tags",
            "resources",
        ] {
            body[name] = Value::Null;
        }
        assert_eq!(
            parse(body).unwrap().request,
            parse(minimal()).unwrap().request
        );
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let body = json!({
            "script_content": "", "experiment_name": "", "model_name": "a/b", "timeout": 5,
            "environment_vars": {"PATH": "x"}, "tags": {"asgard.x": "y"}, "python_version": "2.7",
            "resources": {"memory": "lots", "cpus": 0},
        });
        assert_eq!(
            refused(body),
            [
                "body.script_content",
                "body.script_name",
                "body.experiment_name",
                "body.model_name",
                "body.environment_vars.PATH",
                "body.timeout",
                "body.tags.asgard.x",
                "body.python_version",
                "body.resources.memory",
                "body.resources.cpus",
            ]
        );
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        assert_eq!(refused(with("timeout", json!("soon"))), ["body.timeout"]);
        assert_eq!(
            refused(with("requirements", json!("numpy"))),
            ["body.requirements"]
        );
        assert_eq!(refused(with("tags", json!({"a": 1}))), ["body.tags"]);
        assert_eq!(refused(with("resources", json!(3))), ["body.resources"]);
    }

    #[test]
    fn an_unknown_field_is_told_and_not_fatal() {
        let s = parse(with("owner", json!("me"))).unwrap();
        assert_eq!(s.warnings[0].code, "unknown_field");
    }

    #[test]
    fn a_mistyped_field_is_refused() {
        assert_eq!(
            refused(with("requirement", json!(["numpy"]))),
            ["body.requirement"]
        );
    }

    #[test]
    fn resources_are_read_in_usual_units() {
        let s = parse(with("resources", json!({"memory": "512Mi", "cpus": "1.5"}))).unwrap();
        assert_eq!(s.request.memory_bytes, Some(512 << 20));
        assert_eq!(s.request.cpus, Some(1.5));
    }
}
