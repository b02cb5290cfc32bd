//! `asgard predict`: asks a model, with data from a file.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::cli::Remote;
use super::model_name;
use super::output::{Format, line, message};
use crate::failure::{Exit, Failure};
use crate::tabular;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard predict churn -d data.json
  asgard predict churn/3 -d data.csv --proba
  echo '{\"age\": [40], \"income\": [52000]}' | asgard predict churn@champion -d -

JSON may be columns {\"a\": [1, 2]}, records [{\"a\": 1}], pandas' split form {\"columns\": [..],
\"data\": [[..]]}, or a request with \"inputs\". CSV has the columns' names in its first line.")]
pub(crate) struct PredictArgs {
    /// MODEL, MODEL/VERSION, MODEL@ALIAS or models:/...; the latest version when none is named
    model: String,
    /// A .json or .csv file, or - for stdin
    #[arg(short, long, value_name = "FILE")]
    data: PathBuf,
    /// Ask for class probabilities as well
    #[arg(long)]
    proba: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(context: &super::Context<'_>, args: &PredictArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let (name, version) = model_name::parse(&args.model);
    let mut body = json!({
        "model_name": name,
        "inputs": inputs(&args.data)?,
        "return_probabilities": args.proba,
    });
    if let Some(version) = version {
        body["model_version"] = json!(version);
    }
    let answer = client.post("/mlops/inference", &body).await?;
    let output = args.remote.output;
    if output.format() != Format::Table && output.format() != Format::Csv {
        return Ok(output.one(&answer, &[("predictions", "/predictions")])?);
    }
    print_rows(&answer)?;
    if !output.quiet {
        let ms = answer["inference_time_ms"].as_f64().unwrap_or_default();
        let version = answer["model_version"].as_str().unwrap_or_default();
        message(&format!("{name} version {version}, {ms:.1} ms"));
        for note in answer["notes"].as_array().into_iter().flatten() {
            message(&plain(note));
        }
    }
    Ok(())
}

/// One row a line: the prediction, then its probabilities.
fn print_rows(answer: &Value) -> std::io::Result<()> {
    let Some(predictions) = answer["predictions"].as_array() else {
        return line(&answer["predictions"].to_string());
    };
    let probabilities = answer["probabilities"].as_array();
    for (index, prediction) in predictions.iter().enumerate() {
        let mut cells = vec![plain(prediction)];
        if let Some(row) = probabilities.and_then(|rows| rows.get(index)) {
            cells.extend(row.as_array().into_iter().flatten().map(plain));
        }
        line(&cells.join(","))?;
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn inputs(path: &PathBuf) -> anyhow::Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read stdin")?;
    } else {
        text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("there is no file {}", path.display());
                return Err(Failure::new(Exit::NotFound, message).into());
            }
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
    }
    let is_json = match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => false,
        Some("json") => true,
        _ => text.trim_start().starts_with(['{', '[']),
    };
    let columns = if is_json {
        tabular::columns_of_json(&text)
    } else {
        tabular::columns_of_csv(&text)
    };
    columns.map_err(|problem| {
        Failure::new(Exit::Usage, format!("{}: {problem}", path.display()))
            .help("'asgard predict --help' shows the forms that data may have")
            .into()
    })
}
