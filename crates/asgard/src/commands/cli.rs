//! What the command line understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use super::Context;
use super::output::OutputArgs;
use super::{
    backup, deploy, deployments, encode, features, gc, image, import, jobs, keys, migrate,
    mlflow_ui, model_server, models, predict, run, webhooks,
};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::settings::Flags;

/// A Python training script becomes a tracked, registered, served model.
#[derive(Debug, Parser)]
#[command(
    name = "asgard",
    version,
    max_term_width = 100,
    after_help = "\
Environment: ASGARD_URL and ASGARD_TOKEN name the server and the key that commands use,
ASGARD_CONFIG the configuration file, ASGARD__SECTION__KEY sets one setting.
Exit codes: 0 ok, 1 failure, 2 usage, 3 cancelled, 4 not allowed, 5 the job
or deployment failed,
6 not found, 7 conflict, 8 still pending, 9 server unreachable, 130 interrupted."
)]
pub(crate) struct Cli {
    /// The configuration file [default: asgard.toml, when it exists here]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server
    Up(UpArgs),
    /// Run a training script as a job and follow it
    Run(run::RunArgs),
    /// List, read, follow and stop training jobs
    Jobs(jobs::JobsArgs),
    /// Train a script, or take a registered model, and have it answer at a URL
    Deploy(deploy::DeployArgs),
    /// List, read and change what is deployed
    Deployments(deployments::DeploymentsArgs),
    /// Build container images of models, without a container engine
    Image(image::ImageArgs),
    /// List, read, promote and remove registered models
    Models(models::ModelsArgs),
    /// Import tables, define feature views over them, and set up the Feast SDK
    Features(features::FeaturesArgs),
    /// Ask a model for predictions
    Predict(predict::PredictArgs),
    /// Show whether the platform works, and how much is in it
    Status(Remote),
    /// Print a script as base64, or as the body of a deploy request
    Encode(encode::EncodeArgs),
    /// Take over what another server kept
    Import(import::ImportArgs),
    /// Answer for one model out of a folder, without a database
    ModelServer(model_server::ModelServerArgs),
    /// Create, list and revoke API keys
    Keys(keys::KeysArgs),
    /// Create, list, test and delete webhooks
    Webhooks(webhooks::WebhooksArgs),
    /// Copy the data directory into one file, also while a server runs
    Backup(backup::BackupArgs),
    /// Bring a backup back into an empty data directory
    Restore(backup::RestoreArgs),
    /// Bring the database's schema up to date, or look whether it is
    Migrate(migrate::MigrateArgs),
    /// Remove for good what was deleted long ago, with its files
    Gc(gc::GcArgs),
    /// Test server, store, sandbox and Python, and print fixes
    Doctor(LocalArgs),
    /// Install MLflow's own page, which the server shows at /mlflow/
    MlflowUi(mlflow_ui::MlflowUiArgs),
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version(OutputArgs),
}

/// Which server a command speaks to, and how it prints.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Remote {
    /// The server [default: ASGARD_URL, else the configured address]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// A command about this machine's data directory.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LocalArgs {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// The server's data directory
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl LocalArgs {
    pub(crate) fn flags(&self) -> Flags {
        data_dir_flag(self.data_dir.as_ref()).into_iter().collect()
    }

    /// The server that the command speaks to rather than to files, where one is named. A directory
    /// that is named stands above `ASGARD_URL`.
    ///
    /// # Errors
    /// When a server and a directory are named, which may not belong together.
    pub(crate) fn named_server(&self, context: &Context<'_>) -> Result<Option<Client>, Failure> {
        let named = match (&self.remote.url, &self.data_dir) {
            (Some(_), Some(_)) => {
                let message = "--url and --data-dir name two places";
                return Err(Failure::new(Exit::Usage, message)
                    .help("give the one that is meant: a running server, or the directory of a stopped one"));
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => context.surroundings.url.is_some(),
        };
        named.then(|| context.client(&self.remote)).transpose()
    }

    /// The server that holds the files, which `locked` tells.
    ///
    /// # Errors
    /// When the directory was named: its server may be another one than the default.
    pub(crate) fn holder(
        &self,
        context: &Context<'_>,
        locked: anyhow::Error,
    ) -> anyhow::Result<Client> {
        match self.data_dir {
            Some(_) => Err(Failure::new(Exit::Conflict, locked.to_string())
                .help("that server may listen elsewhere: name it by --url, in place of --data-dir")
                .into()),
            None => Ok(context.client(&self.remote)?),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting
    Show {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  asgard up
  asgard up --data-dir /srv/asgard --listen 0.0.0.0:8000
  asgard up --mlflow-listen 127.0.0.1:5000

Every other setting is in asgard.toml or in ASGARD__SECTION__KEY: see 'asgard config show'.")]
pub(crate) struct UpArgs {
    /// Where to keep all data [default: $XDG_DATA_HOME/asgard or ~/.local/share/asgard]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8000]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// A second address with the same routes, for MLflow clients
    #[arg(long, value_name = "HOST:PORT")]
    mlflow_listen: Option<String>,
    /// Let everyone who reaches a public address do everything, run code included
    #[arg(long)]
    insecure_allow_anonymous: bool,
    /// What to log: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl UpArgs {
    pub(crate) fn flags(&self) -> Flags {
        let mut flags: Flags = data_dir_flag(self.data_dir.as_ref()).into_iter().collect();
        let texts = [
            ("--listen", "server.listen", &self.listen),
            (
                "--mlflow-listen",
                "server.mlflow_listen",
                &self.mlflow_listen,
            ),
            ("--log-level", "server.log_level", &self.log_level),
        ];
        for (flag, key, text) in texts {
            if let Some(text) = text {
                flags.push((flag, key, Value::from(text.as_str())));
            }
        }
        if self.insecure_allow_anonymous {
            flags.push((
                "--insecure-allow-anonymous",
                "server.insecure_allow_anonymous",
                Value::from(true),
            ));
        }
        flags
    }
}

pub(crate) fn data_dir_flag(dir: Option<&PathBuf>) -> Option<(&'static str, &'static str, Value)> {
    let dir = Value::from(dir?.to_string_lossy().as_ref());
    Some(("--data-dir", "server.data_dir", dir))
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use super::Cli;

    /// The arguments of a command, and of those below it, that say nothing of themselves.
    fn mute(command: &Command, path: &str) -> Vec<String> {
        let path = format!("{path} {}", command.get_name());
        let own = command.get_arguments();
        let own = own.filter(|argument| !argument.is_hide_set() && argument.get_help().is_none());
        let own = own.map(|argument| format!("{path} {}", argument.get_id()));
        let below = command.get_subcommands();
        own.chain(below.flat_map(|command| mute(command, &path)))
            .collect()
    }

    #[test]
    fn every_argument_says_what_it_is() {
        let mute = mute(&Cli::command(), "");
        assert!(mute.is_empty(), "{mute:#?}");
        Cli::command().debug_assert();
    }
}
