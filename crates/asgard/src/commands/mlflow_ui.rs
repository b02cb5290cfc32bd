//! `asgard mlflow-ui`: MLflow's own page for this server.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::cli::LocalArgs;
use super::output::{Format, message};
use crate::failure::{Exit, Failure};
use crate::mlflow_ui::{self, Installed, TESTED_VERSION};
use crate::up;

#[derive(Debug, Args)]
pub(crate) struct MlflowUiArgs {
    #[command(flatten)]
    local: LocalArgs,
    #[command(subcommand)]
    command: MlflowUiCommand,
}

#[derive(Debug, Subcommand)]
enum MlflowUiCommand {
    /// Fetch the page from the mlflow wheel on the package index into the data directory
    Install {
        /// The mlflow release to take it from
        #[arg(long, default_value = TESTED_VERSION)]
        version: String,
    },
}

pub(crate) async fn run(context: &Context<'_>, args: &MlflowUiArgs) -> anyhow::Result<()> {
    let MlflowUiCommand::Install { version } = &args.command;
    let output = args.local.remote.output;
    let settings = context.load(&args.local.flags())?.settings;
    let data_dir = up::data_dir(&settings, context.surroundings)?;
    let Installed { folder, files } =
        mlflow_ui::install(&settings.environments, &data_dir, version)
            .await
            .map_err(|error| failure(&error))?;
    if output.format() != Format::Table {
        let answer = json!({ "version": version, "folder": folder, "files": files });
        let columns = [
            ("version", "/version"),
            ("folder", "/folder"),
            ("files", "/files"),
        ];
        return Ok(output.one(&answer, &columns)?);
    }
    if !output.quiet {
        message(&format!(
            "installed the page of MLflow {version} ({files} files) in {}; the server shows it at /mlflow/",
            folder.display()
        ));
    }
    Ok(())
}

fn failure(error: &mlflow_ui::InstallError) -> Failure {
    use mlflow_ui::InstallError;
    let help = match error {
        InstallError::Version(_) => return Failure::of(Exit::Usage, error),
        InstallError::NoPage(_) => "name another release: --version 3.18.0".to_owned(),
        InstallError::File { .. } => {
            "check that the data directory may be written, and that the disk has room".to_owned()
        }
        InstallError::Fetch(cause) => cause
            .help()
            .unwrap_or("check the network and environments.index_url; or install mlflow elsewhere and set tracking.mlflow_ui to it")
            .to_owned(),
    };
    Failure::of(Exit::Failure, error).help(help)
}
