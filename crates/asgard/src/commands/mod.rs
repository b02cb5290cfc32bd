//! The command line.

mod backup;
mod cli;
mod columns;
mod config;
mod deploy;
mod deployments;
mod doctor;
mod encode;
mod example;
mod features;
mod follow;
mod gc;
mod image;
mod import;
mod jobs;
mod keys;
mod migrate;
mod mlflow_ui;
mod model_name;
mod model_server;
mod models;
mod output;
mod phases;
mod predict;
mod run;
mod script;
mod webhooks;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use serde_json::json;

use crate::client::Client;
use crate::failure::{Exit, Failure, chain};
use crate::settings::{self, Flags, Loaded};
use crate::surroundings::Surroundings;
use cli::{Cli, Command, ConfigCommand, Remote};
pub(crate) use models::segment;
use output::message;

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Err(error) = run(cli, &Surroundings::read()) else {
        return ExitCode::SUCCESS;
    };
    if let Some(failure) = error.downcast_ref::<Failure>() {
        message(&format!("error: {failure}"));
        return ExitCode::from(failure.exit as u8);
    }
    let reader_left = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(reader_left) {
        return ExitCode::SUCCESS;
    }
    message(&format!("error: {}", chain(error.as_ref())));
    ExitCode::from(Exit::Failure as u8)
}

/// What every command is given.
struct Context<'a> {
    surroundings: &'a Surroundings,
    file: Option<&'a Path>,
}

impl Context<'_> {
    fn load(&self, flags: &Flags) -> Result<Loaded, Failure> {
        settings::load(self.surroundings, self.file, flags)
            .map_err(|e| Failure::new(Exit::Usage, e.to_string()).help(e.help))
    }

    /// The server that a command speaks to: flag, environment, configured address.
    fn client(&self, remote: &Remote) -> Result<Client, Failure> {
        let named = remote.url.as_ref().or(self.surroundings.url.as_ref());
        let url = match named {
            Some(url) => url.clone(),
            None => {
                let server = self.load(&Flags::new())?.settings.server;
                server.url.unwrap_or(format!("http://{}", server.listen))
            }
        };
        Client::new(&url, self.surroundings.token.as_deref())
    }

    fn color(&self) -> bool {
        io::stderr().is_terminal() && !self.surroundings.no_color
    }

    /// Whether lines may be redrawn.
    fn live(&self) -> bool {
        self.color() && !self.surroundings.no_progress
    }
}

fn run(cli: Cli, surroundings: &Surroundings) -> anyhow::Result<()> {
    let context = Context {
        surroundings,
        file: cli.config.as_deref(),
    };
    let context = &context;
    match cli.command {
        Command::Up(args) => up(context, &args.flags()),
        Command::Run(args) => wait_for(run::run(context, &args)),
        Command::Jobs(args) => wait_for(jobs::run(context, &args)),
        Command::Deploy(args) => wait_for(deploy::run(context, &args)),
        Command::Deployments(args) => wait_for(deployments::run(context, &args)),
        Command::Image(args) => wait_for(image::run(context, &args)),
        Command::Models(args) => wait_for(models::run(context, &args)),
        Command::Features(args) => wait_for(features::run(context, &args)),
        Command::Predict(args) => wait_for(predict::run(context, &args)),
        Command::Status(remote) => wait_for(status(context, &remote)),
        Command::Keys(args) => wait_for(keys::run(context, &args)),
        Command::Webhooks(args) => wait_for(webhooks::run(context, &args)),
        Command::Backup(args) => wait_for(backup::backup(context, &args)),
        Command::Restore(args) => wait_for(backup::restore(context, &args)),
        Command::Migrate(args) => wait_for(migrate::run(context, &args)),
        Command::Gc(args) => wait_for(gc::run(context, &args)),
        Command::Doctor(args) => wait_for(doctor::run(context, &args)),
        Command::MlflowUi(args) => wait_for(mlflow_ui::run(context, &args)),
        Command::Import(args) => wait_for(import::run(context, &args)),
        Command::ModelServer(args) => model_server::run(context, &args),
        Command::Encode(args) => encode::run(&args),
        Command::Config(ConfigCommand::Show { origin, output }) => {
            config::show(context, origin, output)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "asgard", &mut io::stdout());
            Ok(())
        }
        Command::Version(output) => {
            let version = env!("CARGO_PKG_VERSION");
            Ok(output.one(&json!({ "version": version }), &[("asgard", "/version")])?)
        }
    }
}

fn up(context: &Context, flags: &Flags) -> anyhow::Result<()> {
    let Loaded { settings, .. } = context.load(flags)?;
    crate::server::log_to_stderr(&settings.server, !context.surroundings.no_color)?;
    serve(crate::up::up(settings, context.surroundings))
}

/// Runs a server, on all processors.
fn serve(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(server);
    // What did not end in time is not waited for again.
    runtime.shutdown_background();
    result
}

/// Runs a command that speaks to a server; one thread is enough.
fn wait_for(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

async fn status(context: &Context<'_>, remote: &Remote) -> anyhow::Result<()> {
    let client = context.client(remote)?;
    let status = client.get("/mlops/status", &[]).await?;
    if !status["uptime_seconds"].is_number() {
        return Err(client
            .no_asgard("with JSON that is no asgard's status")
            .into());
    }
    let columns = [
        ("tracking", "/mlflow_tracking_uri"),
        ("tracking works", "/mlflow_available"),
        ("feature store works", "/feast_store_available"),
        ("models", "/registered_models"),
        ("experiments", "/active_experiments"),
        ("feature views", "/feature_views"),
        ("jobs waiting", "/queue_depth"),
        ("database", "/storage/database"),
        ("artifacts writable", "/storage/artifacts_writable"),
        ("artifacts error", "/storage/artifacts_error"),
        ("version", "/version"),
        ("up for, s", "/uptime_seconds"),
    ];
    Ok(remote.output.one(&status, &columns)?)
}
