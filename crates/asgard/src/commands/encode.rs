//! `asgard encode`: a script as base64, or as the body of a deploy request.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::output::line;
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard encode train.py
  asgard encode train.py --deploy --model-name churn --requirements scikit-learn pandas > request.json
  curl -X POST http://localhost:8000/mlops/deploy -H 'Content-Type: application/json' -d @request.json")]
pub(crate) struct EncodeArgs {
    /// The Python script
    script: PathBuf,
    /// Print the body of POST /mlops/deploy
    #[arg(long, requires = "model_name")]
    deploy: bool,
    /// The registered model that the trained model becomes a version of
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// The experiment [default: the model's name]
    #[arg(long, value_name = "NAME")]
    experiment_name: Option<String>,
    /// Packages that the script needs
    #[arg(long, num_args = 1.., value_name = "PACKAGE")]
    requirements: Vec<String>,
    /// Seconds that the script may run
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// How many processes answer
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Deployments of a model in one namespace share an address
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

pub(crate) fn run(args: &EncodeArgs) -> anyhow::Result<()> {
    let content = encoded(&args.script)?;
    if !args.deploy {
        return Ok(line(&content)?);
    }
    let model = args.model_name.clone().unwrap_or_default();
    let mut body = Map::new();
    body.insert("script_name".to_owned(), json!(file_name(&args.script)));
    body.insert("script_content".to_owned(), json!(content));
    let experiment = args.experiment_name.as_ref().unwrap_or(&model);
    body.insert("experiment_name".to_owned(), json!(experiment));
    body.insert("model_name".to_owned(), json!(model));
    if !args.requirements.is_empty() {
        body.insert("requirements".to_owned(), json!(args.requirements));
    }
    for (key, value) in [
        ("timeout", args.timeout.map(Value::from)),
        ("replicas", args.replicas.map(Value::from)),
        ("namespace", args.namespace.clone().map(Value::from)),
    ] {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    }
    Ok(line(&serde_json::to_string_pretty(&body)?)?)
}

/// A script's bytes in base64, whatever they are.
pub(crate) fn encoded(script: &Path) -> anyhow::Result<String> {
    let bytes = match std::fs::read(script) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no script {}", script.display());
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        read => read.with_context(|| format!("cannot read {}", script.display()))?,
    };
    Ok(STANDARD.encode(bytes))
}

/// The script's name without its folders.
pub(crate) fn file_name(script: &Path) -> String {
    script
        .file_name()
        .unwrap_or(script.as_os_str())
        .to_string_lossy()
        .into_owned()
}
