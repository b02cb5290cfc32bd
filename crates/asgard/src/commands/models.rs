//! `asgard models`: what is registered, which version has which alias and stage.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use super::cli::Remote;
use super::model_name;
use super::output::{Column, Format, OutputArgs, message};
use crate::client::Client;
use crate::failure::{Exit, Failure};

const COLUMNS: &[Column] = &[
    ("name", "/name"),
    ("version", "/latest_versions/0/version"),
    ("stage", "/latest_versions/0/stage"),
    ("run", "/latest_versions/0/run_id"),
    ("updated", "/updated_at"),
    ("description", "/description"),
];

const VERSION_COLUMNS: &[Column] = &[
    ("version", "/version"),
    ("stage", "/stage"),
    ("aliases", "/aliases"),
    ("run", "/run_id"),
    ("created", "/created_at"),
];

const MODEL: &[Column] = &[
    ("name", "/name"),
    ("description", "/description"),
    ("tags", "/tags"),
    ("created", "/created_at"),
    ("updated", "/updated_at"),
];

/// MLflow's routes: an external server has them too.
const VERSIONS: &str = "/api/2.0/mlflow/model-versions";
const MODELS: &str = "/api/2.0/mlflow/registered-models";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard models get churn
  asgard models alias set churn champion 3
  asgard models promote churn@champion --to Production --archive
  asgard models rm churn/2

A model is named as churn, churn/3 or churn@champion.")]
pub(crate) struct ModelsArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the registered models
    #[command(visible_alias = "ls")]
    List,
    /// Show a model and its versions
    Get {
        /// The model
        name: String,
    },
    /// List the versions of a model, newest first
    Versions {
        /// The model
        name: String,
    },
    /// Let an alias point at a version, or take it away
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Put a version into a stage
    Promote {
        /// MODEL/VERSION or MODEL@ALIAS
        model: String,
        /// Staging, Production, Archived or None
        #[arg(long, value_name = "STAGE")]
        to: String,
        /// Archive what is in that stage
        #[arg(long)]
        archive: bool,
    },
    /// Remove a version, or a model with all of them
    Rm {
        /// MODEL/VERSION or MODEL@ALIAS, or MODEL with --all-versions
        model: String,
        /// Remove the model itself
        #[arg(long)]
        all_versions: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AliasCommand {
    /// Let an alias point at a version
    Set {
        /// The model
        name: String,
        /// The alias, such as champion
        alias: String,
        /// The version's number
        version: String,
    },
    /// Remove an alias
    Rm {
        /// The model
        name: String,
        /// The alias
        alias: String,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: &ModelsArgs) -> anyhow::Result<()> {
    let client = context.client(&args.remote)?;
    let output = args.remote.output;
    match &args.command {
        ModelsCommand::List => {
            let models = client.get("/mlops/models", &[]).await?;
            let items = models.as_array().cloned().unwrap_or_default();
            output.list(&models, &items, COLUMNS)?;
        }
        ModelsCommand::Get { name } => {
            let model = get(&client, name).await?;
            output.one(&model, MODEL)?;
            if output.format() == Format::Table {
                output.list(&model, &versions(&model), VERSION_COLUMNS)?;
            }
        }
        ModelsCommand::Versions { name } => {
            let versions = versions(&get(&client, name).await?);
            output.list(&json!(versions), &versions, VERSION_COLUMNS)?;
        }
        ModelsCommand::Alias(AliasCommand::Set {
            name,
            alias,
            version,
        }) => {
            let body = json!({"name": name, "alias": alias, "version": version});
            client.post(&format!("{MODELS}/alias"), &body).await?;
            done(output, &format!("{name}@{alias} is version {version}"));
        }
        ModelsCommand::Alias(AliasCommand::Rm { name, alias }) => {
            let query = [("name", name.clone()), ("alias", alias.clone())];
            client.delete_by(&format!("{MODELS}/alias"), &query).await?;
            done(output, &format!("{name}@{alias} is removed"));
        }
        ModelsCommand::Promote { model, to, archive } => {
            promote(&client, model, to, *archive, output).await?;
        }
        ModelsCommand::Rm {
            model,
            all_versions,
        } => remove(&client, model, *all_versions, output).await?,
    }
    Ok(())
}

async fn get(client: &Client, name: &str) -> Result<Value, Failure> {
    client
        .get(&format!("/mlops/models/{}", segment(name)), &[])
        .await
}

fn versions(model: &Value) -> Vec<Value> {
    model["versions"].as_array().cloned().unwrap_or_default()
}

fn done(output: OutputArgs, what: &str) {
    if !output.quiet {
        message(&format!("✓ {what}"));
    }
}

async fn promote(
    client: &Client,
    model: &str,
    stage: &str,
    archive: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    let (name, version) = one_version(client, model, "promoted").await?;
    let body = json!({
        "name": name,
        "version": version,
        "stage": stage,
        "archive_existing_versions": archive,
    });
    client
        .post(&format!("{VERSIONS}/transition-stage"), &body)
        .await?;
    done(output, &format!("{name} version {version} is in {stage}"));
    Ok(())
}

async fn remove(
    client: &Client,
    model: &str,
    all_versions: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    if all_versions {
        let (name, version) = model_name::parse(model);
        if version.is_some() {
            let message = format!("{model} is one version, and --all-versions means all");
            return Err(Failure::new(Exit::Usage, message)
                .help("name the model alone, or leave --all-versions out"));
        }
        let query = [("name", name.to_owned())];
        client
            .delete_by(&format!("{MODELS}/delete"), &query)
            .await?;
        done(output, &format!("{name} is removed with all its versions"));
        return Ok(());
    }
    let (name, version) = one_version(client, model, "removed").await?;
    let query = [("name", name.clone()), ("version", version.clone())];
    client
        .delete_by(&format!("{VERSIONS}/delete"), &query)
        .await?;
    done(output, &format!("{name} version {version} is removed"));
    Ok(())
}

/// The name and the number of the version that is named, also by an alias.
async fn one_version(
    client: &Client,
    model: &str,
    to_be: &str,
) -> Result<(String, String), Failure> {
    let (name, version) = model_name::parse(model);
    let Some(version) = version else {
        let message = format!("{model} names no version that could be {to_be}");
        return Err(Failure::new(Exit::Usage, message).help(format!(
            "write {model}/VERSION or {model}@ALIAS; 'asgard models versions {model}' lists them"
        )));
    };
    let Some(alias) = version.strip_prefix('@') else {
        return Ok((name.to_owned(), version));
    };
    let query = [("name", name.to_owned()), ("alias", alias.to_owned())];
    let found = client.get(&format!("{MODELS}/alias"), &query).await?;
    let number = &found["model_version"]["version"];
    match number.as_str() {
        Some(number) => Ok((name.to_owned(), number.to_owned())),
        None => Err(client.no_asgard("without the number of the version")),
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(byte as char);
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
