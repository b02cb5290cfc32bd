//! `asgard model-server`: a model's folder as a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use figment::value::Value;

use super::{Context, serve};
use crate::failure::{Exit, Failure};
use crate::model_server::{self, Listen, Start};
use crate::settings::Flags;

#[derive(Debug, Args)]
// A container's own flags come after those of its image.
#[command(
    args_override_self = true,
    after_help = "Examples:
  asgard model-server --model ./model
  asgard model-server --model ./model --name iris --listen 127.0.0.1:9000
  curl http://127.0.0.1:8080/predict -H 'Content-Type: application/json' -d '{\"inputs\": {\"x\": [1]}}'

It answers / /health /metadata /predict /metrics, MLflow's /invocations and the Open Inference
Protocol under /v2. On SIGTERM it ends the requests that it has and then itself."
)]
pub(crate) struct ModelServerArgs {
    /// The folder that holds the MLmodel file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The name that it answers under [default: the folder's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The version that it answers as
    #[arg(long, value_name = "N", default_value_t = 1)]
    model_version: i64,
    /// Where to listen: HOST:PORT, or fd:NUMBER for a listening local socket that it is started with
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// A complete Python environment of asgard [default: one made of the model's requirements]
    #[arg(long, value_name = "DIR")]
    environment: Option<PathBuf>,
    /// What another asgard has proven about the model, and kept as a file
    #[arg(long, value_name = "FILE", hide = true)]
    proof: Option<PathBuf>,
    /// Where environments are kept, and what loading writes [default: as for asgard up]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The weakest isolation of the model's code: strict, best_effort or none
    #[arg(long, value_name = "LEVEL")]
    isolation: Option<String>,
    /// Answer everyone who reaches a public address, as inside a container
    #[arg(long)]
    insecure_allow_anonymous: bool,
    /// Seconds between SIGTERM and the end of listening, in which /health says 503
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_delay: u64,
    /// What to log: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(crate) fn run(context: &Context<'_>, args: &ModelServerArgs) -> anyhow::Result<()> {
    let listen = Listen::parse(&args.listen)?;
    let settings = context.load(&args.flags())?.settings;
    crate::server::log_to_stderr(&settings.server, !context.surroundings.no_color)?;
    let folder = args.model.canonicalize().map_err(|_| {
        let message = format!("there is no folder {}", args.model.display());
        Failure::new(Exit::NotFound, message)
    })?;
    let start = Start {
        name: args.name.clone().unwrap_or_else(|| {
            let name = folder.file_name().unwrap_or(folder.as_os_str());
            name.to_string_lossy().into_owned()
        }),
        folder,
        version: args.model_version,
        environment: args.environment.clone(),
        proof: args.proof.clone(),
        drain_delay: Duration::from_secs(args.drain_delay),
    };
    let running = model_server::run(settings, context.surroundings, listen, start);
    serve(running)
}

impl ModelServerArgs {
    fn flags(&self) -> Flags {
        let dir = self.data_dir.as_ref().map(|dir| dir.to_string_lossy());
        let texts = [
            ("--data-dir", "server.data_dir", dir.as_deref()),
            (
                "--isolation",
                "sandbox.isolation",
                self.isolation.as_deref(),
            ),
            ("--log-level", "server.log_level", self.log_level.as_deref()),
        ];
        let mut flags: Flags = texts
            .into_iter()
            .filter_map(|(flag, key, text)| Some((flag, key, Value::from(text?))))
            .collect();
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
