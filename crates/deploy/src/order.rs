//! A request to deploy: reading its fields, saying all that is wrong with it at once.

mod reader;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use web::FieldError;

use crate::check;
use crate::config::{Config, REPLICAS_MAX};
use crate::deployment::{Autoscale, Order, Target};
use crate::environment::Environment;
use crate::error::Error;
use reader::Reader;

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
    pub(crate) image: Option<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) autoscale: Option<Autoscale>,
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
        let target = reader.target(config);
        let image = reader.image();
        let environment = reader.environment();
        let autoscale = reader.autoscale();
        let canary_percent = reader.within("canary_percent", 1, 99);
        let request = Self {
            namespace: reader.namespace(),
            target,
            replicas: reader
                .within("replicas", 1, REPLICAS_MAX)
                .unwrap_or(config.replicas),
            memory_bytes: memory_bytes.or(config.memory_default_bytes),
            image,
            environment,
            autoscale,
            cpus,
            canary_percent,
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

    /// What is stored of it; without a version it trains one.
    pub(crate) fn order(&self, model_version: Option<i64>) -> Order {
        Order {
            trains: model_version.is_none(),
            model_version,
            namespace: self.namespace.clone(),
            model_name: self.model_name.clone(),
            target: self.target,
            replicas: self.replicas,
            memory_bytes: self.memory_bytes,
            cpus: self.cpus,
            canary_percent: self.canary_percent,
            rollback_to: None,
            image: self.image.clone(),
            environment: Environment::Plain(self.environment.clone()),
            autoscale: self.autoscale,
        }
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
    fn variables_that_would_change_the_platform_are_refused_as_for_jobs() {
        for name in [
            "PATH",
            "LD_PRELOAD",
            "PYTHONPATH",
            "HOME",
            "ASGARD_TOKEN",
            "1A",
            "",
        ] {
            let body = json!({"model_name": "m", "environment": {name: "x"}});
            assert_eq!(fields(body), ["environment"], "{name:?}");
        }
        let many: Map<String, Value> = (0..201).map(|n| (format!("A{n}"), json!("x"))).collect();
        for wrong in [json!({"A": 1}), json!(["A"]), json!(many)] {
            let body = json!({"model_name": "m", "environment": wrong});
            assert_eq!(fields(body), ["environment"]);
        }
        // With a script too it is told once.
        let script = "import mlflow\nmlflow.sklearn.log_model(m, 'model')";
        let body =
            json!({"model_name": "m", "script_content": script, "environment": {"PATH": "x"}});
        assert_eq!(fields(body), ["environment"]);
    }

    #[test]
    fn no_text_holds_a_nul_character() {
        for field in ["model_name", "model_version", "namespace"] {
            let mut body = json!({"model_name": "m"});
            body[field] = json!("a\0");
            assert_eq!(fields(body), [field]);
        }
    }

    #[test]
    fn a_scripts_job_gets_the_variables_too() {
        let script = "import mlflow\nmlflow.sklearn.log_model(m, 'model')";
        let body = json!({"model_name": "m", "script_content": script,
            "environment": {"A": "1", "B": "2"}, "environment_vars": {"B": "3"}});
        let request = parse(body).unwrap();
        assert_eq!(request.environment["B"], "2");
        let Source::Script(training) = request.source else {
            panic!("a script");
        };
        assert_eq!(training["environment_vars"], json!({"A": "1", "B": "3"}));
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

    #[test]
    fn what_only_a_cluster_has_is_refused_without_one() {
        let image = format!("registry.example.com/iris@sha256:{}", "0".repeat(64));
        let scale = json!({"min_replicas": 2, "max_replicas": 4});
        let body = json!({"model_name": "m", "image": image, "autoscale": scale});
        assert_eq!(fields(body.clone()), ["image", "autoscale"]);
        let asked = json!({"model_name": "m", "target": "kubernetes"});
        assert_eq!(fields(asked), ["target"]);

        let mut config = Config::default();
        config.kubernetes.in_cluster = true;
        let parse = |body: Value| {
            let body = body.as_object().unwrap().clone();
            Request::parse(body, &config, &jobs::Config::default())
        };
        let request = parse(body.clone()).unwrap();
        assert_eq!(
            (request.target, request.autoscale.unwrap().cpu_percent),
            (Target::Kubernetes, 70)
        );
        for wrong in [
            json!({"model_name": "m", "image": "registry.example.com/iris:latest"}),
            json!({"model_name": "m", "autoscale": {"min_replicas": 3, "max_replicas": 2}}),
            json!({"model_name": "m", "autoscale": scale, "canary_percent": 10}),
        ] {
            assert!(
                matches!(parse(wrong.clone()), Err(Error::Fields(_))),
                "{wrong}"
            );
        }
    }
}
