//! `asgard deploy`: a script or a registered model becomes a running URL.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::Context;
use super::cli::Remote;
use super::deployments::{DEPLOYMENT, get, print_plan};
use super::follow::{View, conclude_deployment, follow_deployment};
use super::model_name;
use super::output::{Format, line};
use super::script::{ScriptArgs, map, pair};

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
    #[arg(long, value_name = "PERCENT", value_parser = canary)]
    canary: Option<u32>,
    /// The most memory of one replica, such as 1Gi
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// How many CPUs one replica may use
    #[arg(long, value_name = "N")]
    cpu: Option<f64>,
    /// Variables that the model's code finds in each replica; a script's job has them too
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    model_env: Vec<(String, String)>,
    #[command(flatten)]
    training: ScriptArgs,
    /// The experiment of a script [default: the model's name]
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
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
    let mut view = View::of_phases(context, output);
    view.phases.mark(true, &format!("deployment {id}"), None);
    follow_deployment(&client, &id, &mut view).await?;
    let deployment = get(&client, &id).await?;
    if document {
        output.one(&deployment, DEPLOYMENT)?;
    }
    conclude_deployment(&deployment, &mut view.phases)?;
    if args.canary.is_some() && deployment["traffic_percent"] == 100 {
        let aside = "nothing else is deployed beside it, so it gets all requests";
        view.phases.aside(aside);
    }
    Ok(())
}

fn body(args: &DeployArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = Map::new();
    if is_script(&args.what) {
        body = script(args)?;
    } else {
        let text = args.what.to_string_lossy();
        let (name, version) = model_name::parse(&text);
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
    if !args.model_env.is_empty() {
        body.insert("environment".to_owned(), map(&args.model_env));
    }
    if args.memory.is_some() || args.cpu.is_some() {
        let resources = json!({ "memory": args.memory, "cpus": args.cpu });
        body.insert("resources".to_owned(), resources);
    }
    Ok(body)
}

fn script(args: &DeployArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = args.training.body(&args.what)?;
    let experiment = args.experiment.clone();
    let experiment = experiment.unwrap_or_else(|| args.training.model(&args.what));
    body.insert("experiment_name".to_owned(), json!(experiment));
    let skip = json!(args.skip_script_check);
    body.insert("skip_script_check".to_owned(), skip);
    Ok(body)
}

fn is_script(what: &Path) -> bool {
    what.extension().is_some_and(|e| e == "py") || what.is_file()
}

/// The share of a canary: with all of the requests it would be none.
fn canary(text: &str) -> Result<u32, String> {
    match percent(text)? {
        share @ 1..=99 => Ok(share),
        _ => Err("a canary gets from 1 to 99 percent of the requests".to_owned()),
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
    use super::{canary, percent};

    #[test]
    fn a_percentage_has_a_sign_or_not() {
        assert_eq!(percent("10%"), Ok(10));
        assert_eq!(percent("25"), Ok(25));
        assert!(percent("120%").is_err() && percent("ten").is_err());
        assert!(canary("10%").is_ok() && canary("0").is_err() && canary("100").is_err());
    }
}
