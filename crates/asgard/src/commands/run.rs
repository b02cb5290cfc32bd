//! `asgard run`: a script as a job, followed to its end.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::cli::Remote;
use super::columns::{JOB, conclude};
use super::encode::{encoded, file_name};
use super::follow::{View, follow};
use super::output::{Format, line};
use super::phases::Phases;
use super::{Context, jobs};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard run train.py
  asgard run train.py --model churn -r scikit-learn pandas -e N_ESTIMATORS=200 --timeout 600
  asgard run train.py --detach

The script's output goes to stdout, everything else to stderr. Ctrl-C stops following, not the job.
A script with inline metadata (PEP 723) brings its own requirements.")]
pub(crate) struct RunArgs {
    /// The Python script
    script: PathBuf,
    #[command(flatten)]
    remote: Remote,
    /// Packages that the script needs [default: its inline metadata, else the usual ones]
    #[arg(short, long, num_args = 1.., value_name = "PACKAGE")]
    requirements: Vec<String>,
    /// Variables of the script's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Seconds that the script may run [default: the server's, 300]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// The experiment [default: the script's name]
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// The registered model that the trained model becomes a version of [default: the script's name]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Tags of the run and of the model version
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// A Python version such as 3.11
    #[arg(long, value_name = "VERSION")]
    python: Option<String>,
    /// The most memory it may use, such as 2Gi
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// How many CPUs it may use
    #[arg(long, value_name = "N")]
    cpu: Option<f64>,
    /// Fail when the script leaves no model
    #[arg(long)]
    require_model: bool,
    /// Turn MLflow's autologging on before the script
    #[arg(long)]
    autolog: bool,
    /// Print the job's id and do not follow it
    #[arg(short, long)]
    detach: bool,
}

pub(crate) async fn run(context: &Context<'_>, args: &RunArgs) -> anyhow::Result<()> {
    let output = args.remote.output;
    let document = output.format() != Format::Table;
    let client = context.client(&args.remote)?;
    let body = Value::Object(body(args)?);
    let job = client.post("/mlops/training/upload", &body).await?;
    let id = job["job_id"].as_str().unwrap_or_default().to_owned();
    if args.detach {
        if document {
            output.one(&job, JOB)?;
        } else {
            line(&id)?;
        }
        return Ok(());
    }
    let phases = Phases::new(context.live(), context.color(), output.quiet);
    let mut view = View::new(phases);
    view.log_to_stderr = document;
    view.phases.mark(
        true,
        &format!("uploaded {} as job {id}", file_name(&args.script)),
        None,
    );
    follow(&client, &id, 0, &mut view).await?;
    let job = jobs::get(&client, &id).await?;
    if document {
        output.one(&job, JOB)?;
    }
    conclude(&job, &mut view.phases)?;
    if let (Some(model), Some(_)) = (job["model_name"].as_str(), job["model_version"].as_str()) {
        view.phases
            .aside(&format!("next: asgard predict {model} -d data.json"));
    }
    Ok(())
}

fn body(args: &RunArgs) -> anyhow::Result<Map<String, Value>> {
    let stem = args.script.file_stem().unwrap_or(args.script.as_os_str());
    let stem = stem.to_string_lossy().into_owned();
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put("script_name", json!(file_name(&args.script)));
    put("script_content", json!(encoded(&args.script)?));
    put("script_encoding", json!("base64"));
    put(
        "experiment_name",
        json!(args.experiment.as_ref().unwrap_or(&stem)),
    );
    put("model_name", json!(args.model.as_ref().unwrap_or(&stem)));
    put("environment_vars", map(&args.env));
    put("tags", map(&args.tag));
    put("require_model", json!(args.require_model));
    put("autolog", json!(args.autolog));
    if !args.requirements.is_empty() {
        put("requirements", json!(args.requirements));
    }
    if let Some(seconds) = args.timeout {
        put("timeout", json!(seconds));
    }
    if let Some(version) = &args.python {
        put("python_version", json!(version));
    }
    if args.memory.is_some() || args.cpu.is_some() {
        put(
            "resources",
            json!({ "memory": args.memory, "cpus": args.cpu }),
        );
    }
    Ok(body)
}

fn map(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter().map(|(k, v)| (k.clone(), json!(v)));
    Value::Object(pairs.collect())
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}
