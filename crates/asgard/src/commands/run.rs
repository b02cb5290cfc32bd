//! `asgard run`: a script as a job, followed to its end.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::cli::Remote;
use super::columns::{JOB, conclude};
use super::encode::file_name;
use super::follow::{View, follow_job};
use super::output::{Format, line};
use super::script::{ScriptArgs, stem};
use super::{Context, example, jobs};

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
    #[command(flatten)]
    training: ScriptArgs,
    /// The experiment [default: the script's name]
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
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
    let mut view = View::of_phases(context, output);
    view.phases.mark(
        true,
        &format!("uploaded {} as job {id}", file_name(&args.script)),
        None,
    );
    follow_job(&client, &id, 0, &mut view).await?;
    let job = jobs::get(&client, &id).await?;
    if document {
        output.one(&job, JOB)?;
    }
    conclude(&job, &mut view.phases)?;
    if let (Some(model), Some(version)) =
        (job["model_name"].as_str(), job["model_version"].as_str())
    {
        let next = example::predict(&client, model, version).await;
        view.phases.aside(&format!("next: {next}"));
    }
    Ok(())
}

fn body(args: &RunArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = args.training.body(&args.script)?;
    let experiment = args.experiment.clone();
    let mut put = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    put(
        "experiment_name",
        json!(experiment.unwrap_or_else(|| stem(&args.script))),
    );
    put("require_model", json!(args.require_model));
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
