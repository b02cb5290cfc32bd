//! What the command line understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use figment::value::Value;

use crate::settings::Flags;

/// A Python training script becomes a tracked, registered, served model.
#[derive(Debug, Parser)]
#[command(name = "asgard", version, max_term_width = 100)]
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
        let mut flags = Flags::new();
        if let Some(dir) = &self.data_dir {
            flags.push((
                "--data-dir",
                "server.data_dir",
                Value::from(dir.to_string_lossy().as_ref()),
            ));
        }
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
