//! `asgard predict`: asks a model, with data from a file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

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
  asgard predict churn -d '{\"age\": [40], \"income\": [52000]}'
  asgard predict churn -d data.json
  asgard predict churn/3 -d data.csv --proba
  cat data.json | asgard predict churn@champion -d -

JSON may be columns {\"a\": [1, 2]}, records [{\"a\": 1}], pandas' split form {\"columns\": [..],
\"data\": [[..]]}, or a request with \"inputs\". CSV has the columns' names in its first line.")]
pub(crate) struct PredictArgs {
    /// MODEL, MODEL/VERSION, MODEL@ALIAS or models:/...; the latest version when none is named
    model: String,
    /// A .json or .csv file, - for stdin, or JSON as it is
    #[arg(short, long, value_name = "FILE|JSON")]
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

fn inputs(path: &Path) -> anyhow::Result<Value> {
    let (text, name) = match path.to_str() {
        Some("-") => (read_stdin()?, "stdin".to_owned()),
        Some(json) if json.starts_with(['{', '[']) => (json.to_owned(), "--data".to_owned()),
        _ => (read_file(path)?, path.display().to_string()),
    };
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
        Failure::new(Exit::Usage, format!("{name}: {problem}"))
            .help("'asgard predict --help' shows the forms that data may have")
            .into()
    })
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .context("cannot read stdin")?;
    Ok(text_of(bytes, "stdin")?)
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("there is no file {}", path.display());
            Err(Failure::new(Exit::NotFound, message).into())
        }
        read => {
            let bytes = read.with_context(|| format!("cannot read {}", path.display()))?;
            Ok(text_of(bytes, &path.display().to_string())?)
        }
    }
}

/// The text of data, which may be of a form that is none.
fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    const PARQUET: &[u8] = b"PAR1";
    let refused = |what: &str, help: String| {
        Failure::new(
            Exit::Usage,
            format!("{name} is {what}: predict reads CSV and JSON"),
        )
        .help(help)
    };
    if bytes.starts_with(PARQUET) {
        return Err(refused(
            "Parquet",
            format!(
                "write it as CSV: python3 -c \"import pandas; pandas.read_parquet('{name}').to_csv('data.csv', index=False)\""
            ),
        ));
    }
    String::from_utf8(bytes).map_err(|_| {
        let help = "save it as UTF-8; spreadsheets and pickles are to be written as CSV first";
        refused("no text in UTF-8", help.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn what_is_no_text_is_told_by_its_name() {
        for (bytes, word) in [(&b"PAR1\x15"[..], "Parquet"), (&[0x80, 4], "UTF-8")] {
            let refused = text_of(bytes.to_vec(), "x").unwrap_err();
            assert!(refused.message().contains(word), "{refused}");
        }
    }
}
