//! The command line.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::failure::{Exit, Failure, chain};
use crate::settings::{self, Loaded};
use crate::surroundings::Surroundings;
use cli::{Cli, Command};

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli, &Surroundings::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = error
                .downcast_ref()
                .map_or(Exit::Failure, |f: &Failure| f.exit);
            // Nothing is left to be told when stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {}", chain(error.as_ref()));
            ExitCode::from(exit as u8)
        }
    }
}

fn run(cli: Cli, surroundings: &Surroundings) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(args) => {
            let Loaded { settings, .. } = load(surroundings, cli.config.as_deref(), &args.flags())?;
            crate::server::log_to_stderr(&settings.server, !surroundings.no_color)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(crate::up::up(settings, surroundings))
        }
    }
}

fn load(
    surroundings: &Surroundings,
    file: Option<&std::path::Path>,
    flags: &settings::Flags,
) -> Result<Loaded, Failure> {
    settings::load(surroundings, file, flags)
        .map_err(|e| Failure::new(Exit::Usage, e.to_string()).help(e.help))
}
