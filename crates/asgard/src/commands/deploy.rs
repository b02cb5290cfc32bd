//! `asgard deploy`: a script or a registered model becomes a running URL.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::Context;
use super::cli::Remote;
use super::deployments::{DEPLOYMENT, conclude, follow, get, print_plan};
use super::encode::{encoded, file_name};
use super::follow::View;
use super::output::{Format, line};
use super::phases::Phases;
use super::run::pair;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard deploy train.py --model churn -r scikit-learn pandas
  asgard deploy churn@champion --replicas 3
  asgard deploy churn/4 --canary 10%
  asgard deploy churn/4 --target kubernetes --dry-run

A path that exists, or a name that ends in .py, is a script: it is trained first. Anything else is
a registered model, with @ALIAS, /VERSION or /STAGE, else its latest version. Ctrl-C stops
following, not the deployment.")]
pub(crate) struct DeployArgs {
    /// The Python script, or MODEL, MODEL@ALIAS, MODEL/VERSION
    what: PathBuf,
    #[command(flatten)]
    remote: Remote,
    /// How many processes answer [default: the server's, 2]
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Deployments of a model in one namespace share an address [default: asgard]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Where it runs: local or kubernetes [default: kubernetes where the server has a cluster]
    #[arg(long, value_name = "TARGET", value_parser = ["local", "kubernetes"])]
    target: Option<String>,
    /// An image of the model that is in a registry already, by digest; for kubernetes
    #[arg(long, value_name = "NAME@DIGEST")]
    image: Option<String>,
    /// Print the objects that the cluster would get, and how it differs now; deploy nothing
    #[arg(long)]
    dry_run: bool,
    /// The share of the requests beside what is deployed already, such as 10%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u32>,
    /// The most memory of one replica, such as 1Gi
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// How many CPUs one replica may use
    #[arg(long, value_name = "N")]
    cpu: Option<f64>,
    /// The registered model that a script becomes a version of [default: the script's name]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The experiment of a script [default: the model's name]
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Packages that a script needs [default: its inline metadata, else the usual ones]
    #[arg(short, long, num_args = 1.., value_name = "PACKAGE")]
    requirements: Vec<String>,
    /// Variables of a script's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Seconds that a script may run [default: the server's, 300]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Tags of the run and of the model version
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Turn MLflow's autologging on before the script
    #[arg(long)]
    autolog: bool,
    /// Deploy a script although its text shows no call that logs a model
    #[arg(long)]
    skip_script_check: bool,
    /// Print the deployment's id and do not follow it
    #[arg(short, long)]
    detach: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &DeployArgs) -> anyhow::Result<()> {
    let output = args.remote.output;
    let document = output.format() != Format::Table;
    let client = context.client(&args.remote)?;
    let body = Value::Object(body(args)?);
    if args.dry_run {
        let plan = client.post("/mlops/deploy?dry_run=true", &body).await?;
        return print_plan(output, &plan);
    }
    let deployment = client.post("/mlops/deploy?wait=false", &body).await?;
    let id = deployment["deployment_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if args.detach {
        if document {
            output.one(&deployment, DEPLOYMENT)?;
        } else {
            line(&id)?;
        }
        return Ok(());
    }
    let phases = Phases::new(context.live(), context.color(), output.quiet);
    let mut view = View::new(phases);
    view.log_to_stderr = document;
    view.phases.mark(true, &format!("deployment {id}"), None);
    follow(&client, &id, 0, &mut view).await?;
    let deployment = get(&client, &id).await?;
    if document {
        output.one(&deployment, DEPLOYMENT)?;
    }
    Ok(conclude(&deployment, &mut view.phases)?)
}

fn body(args: &DeployArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = Map::new();
    if is_script(&args.what) {
        script(args, &mut body)?;
    } else {
        let text = args.what.to_string_lossy();
        let (name, version) = model(&text);
        body.insert("model_name".to_owned(), json!(name));
        if let Some(version) = version {
            body.insert("model_version".to_owned(), json!(version));
        }
    }
    for (key, value) in [
        ("replicas", args.replicas.map(Value::from)),
        ("namespace", args.namespace.clone().map(Value::from)),
        ("canary_percent", args.canary.map(Value::from)),
        ("target", args.target.clone().map(Value::from)),
        ("image", args.image.clone().map(Value::from)),
    ] {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    }
    if args.memory.is_some() || args.cpu.is_some() {
        let resources = json!({ "memory": args.memory, "cpus": args.cpu });
        body.insert("resources".to_owned(), resources);
    }
    Ok(body)
}

fn script(args: &DeployArgs, body: &mut Map<String, Value>) -> anyhow::Result<()> {
    let stem = args.what.file_stem().unwrap_or(args.what.as_os_str());
    let stem = stem.to_string_lossy().into_owned();
    let model = args.model.clone().unwrap_or(stem);
    let experiment = args.experiment.as_ref().unwrap_or(&model).clone();
    let pairs = |pairs: &[(String, String)]| {
        let pairs = pairs.iter().map(|(k, v)| (k.clone(), json!(v)));
        Value::Object(pairs.collect())
    };
    for (key, value) in [
        ("script_name", json!(file_name(&args.what))),
        ("script_content", json!(encoded(&args.what)?)),
        ("script_encoding", json!("base64")),
        ("model_name", json!(model)),
        ("experiment_name", json!(experiment)),
        ("environment_vars", pairs(&args.env)),
        ("tags", pairs(&args.tag)),
        ("autolog", json!(args.autolog)),
        ("skip_script_check", json!(args.skip_script_check)),
    ] {
        body.insert(key.to_owned(), value);
    }
    if !args.requirements.is_empty() {
        body.insert("requirements".to_owned(), json!(args.requirements));
    }
    if let Some(seconds) = args.timeout {
        body.insert("timeout".to_owned(), json!(seconds));
    }
    Ok(())
}

fn is_script(what: &Path) -> bool {
    what.extension().is_some_and(|e| e == "py") || what.is_file()
}

/// `name@alias` and `name/version`, whose version is `@alias` and `version`.
fn model(text: &str) -> (&str, Option<String>) {
    if let Some((name, alias)) = text.split_once('@') {
        return (name, Some(format!("@{alias}")));
    }
    match text.split_once('/') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (text, None),
    }
}

pub(super) fn percent(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('%').trim();
    match number.parse() {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(format!("{text:?} is no percentage from 0 to 100")),
    }
}

#[cfg(test)]
mod tests {
    use super::{model, percent};

    #[test]
    fn a_models_version_follows_its_name() {
        assert_eq!(model("iris"), ("iris", None));
        assert_eq!(model("iris@best"), ("iris", Some("@best".to_owned())));
        assert_eq!(model("iris/4"), ("iris", Some("4".to_owned())));
    }

    #[test]
    fn a_percentage_has_a_sign_or_not() {
        assert_eq!(percent("10%"), Ok(10));
        assert_eq!(percent("25"), Ok(25));
        assert!(percent("120%").is_err() && percent("ten").is_err());
    }
}
