//! A training script on the command line, as a job and as a deployment take it.

use std::path::Path;

use clap::Args;
use serde_json::{Map, Value, json};

use super::encode::{encoded, file_name};
use crate::failure::{Exit, Failure};

/// How a script is trained.
#[derive(Debug, Args)]
pub(super) struct ScriptArgs {
    /// Packages that the script needs [default: its inline metadata, else the usual ones]
    #[arg(short, long, num_args = 1.., value_name = "PACKAGE")]
    requirements: Vec<String>,
    /// Variables of the script's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Seconds that the script may run [default: the server's, 300]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// The registered model that the trained model becomes a version of [default: the script's name]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Tags of the run and of the model version
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Turn MLflow's autologging on before the script
    #[arg(long)]
    autolog: bool,
}

impl ScriptArgs {
    /// The name of the model that the script makes.
    pub(super) fn model(&self, script: &Path) -> String {
        self.model.clone().unwrap_or_else(|| stem(script))
    }

    /// What an upload says of the script, but for the experiment.
    ///
    /// # Errors
    /// When the script cannot be read, or is none.
    pub(super) fn body(&self, script: &Path) -> anyhow::Result<Map<String, Value>> {
        check(script)?;
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| {
            body.insert(key.to_owned(), value);
        };
        put("script_name", json!(file_name(script)));
        put("script_content", json!(encoded(script)?));
        put("script_encoding", json!("base64"));
        put("model_name", json!(self.model(script)));
        put("environment_vars", map(&self.env));
        put("tags", map(&self.tag));
        put("autolog", json!(self.autolog));
        if !self.requirements.is_empty() {
            put("requirements", json!(self.requirements));
        }
        if let Some(seconds) = self.timeout {
            put("timeout", json!(seconds));
        }
        Ok(body)
    }
}

/// Refuses what is no Python script, by its name: the server would run it, and fail.
fn check(script: &Path) -> Result<(), Failure> {
    let shown = script.display();
    if script.is_dir() {
        let message = format!("{shown} is a folder, and one script is run");
        return Err(Failure::new(Exit::Usage, message).help(format!(
            "name the script in it, such as {}",
            script.join("train.py").display()
        )));
    }
    let help = match script.extension().and_then(|ending| ending.to_str()) {
        None | Some("py") => return Ok(()),
        Some("ipynb") => format!("'jupyter nbconvert --to script {shown}' makes one of a notebook"),
        Some(_) => "name a script that ends in .py; what it reads goes along by --env, or lies in a folder of jobs.data_dirs".to_owned(),
    };
    let message = format!("{shown} is no Python script: its name does not end in .py");
    Err(Failure::new(Exit::Usage, message).help(help))
}

/// The name of a script's file without its ending.
pub(super) fn stem(script: &Path) -> String {
    let stem = script.file_stem().unwrap_or(script.as_os_str());
    stem.to_string_lossy().into_owned()
}

pub(super) fn map(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter().map(|(k, v)| (k.clone(), json!(v)));
    Value::Object(pairs.collect())
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}
