//! `asgard model-server`: one model out of a folder on one address, without a database.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use environments::{Environment, Environments};
use sandbox::Sandbox;
use serving::{ModelFolder, ModelKey, ModelServer, Variables};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::{Authenticate, Code, Credentials, Door, Identity, Role};

use crate::failure::{Exit, Failure};
use crate::http;
use crate::http::loading::Loading;
use crate::server::{self, Address, Exposure, Listener, Metrics};
use crate::settings::Settings;
use crate::stop_signals::StopSignals;
use crate::surroundings::Surroundings;
use crate::up::{data_dir, finish};

/// What to serve.
#[derive(Debug)]
pub struct Start {
    pub folder: PathBuf,
    pub name: String,
    pub version: i64,
    /// A complete environment; absent: one is made of the model's requirements.
    pub environment: Option<PathBuf>,
    /// What was proven about the model before.
    pub proof: Option<PathBuf>,
    pub drain_delay: Duration,
}

/// Where a model server listens.
#[derive(Debug)]
pub enum Listen {
    Tcp(Address),
    /// A local socket that whoever started this process listens at already.
    Inherited(UnixListener),
}

impl Listen {
    /// Reads `HOST:PORT` or `fd:NUMBER`; call it before this process opens anything.
    ///
    /// # Errors
    /// When it is neither, or the number is not that of a listening socket.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(number) = text.strip_prefix("fd:") {
            let taken = number.parse().map(sandbox::take_listener);
            return match taken {
                Ok(Ok(listener)) => Ok(Self::Inherited(listener)),
                _ => {
                    let message = format!(
                        "--listen: {number} is not the number of an inherited, listening local socket"
                    );
                    Err(Failure::new(Exit::Usage, message))
                }
            };
        }
        let refused =
            |e: server::Refused| Failure::new(Exit::Usage, format!("--listen: {e}")).help(e.help());
        Address::parse(text).map(Self::Tcp).map_err(refused)
    }
}

/// Serves the model until SIGTERM or an interrupt.
///
/// # Errors
/// When the model cannot be loaded or the address cannot be used.
pub async fn run(
    settings: Settings,
    surroundings: &Surroundings,
    listen: Listen,
    start: Start,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut signals = StopSignals::new()?;
    let key = ModelKey::of_environment(&surroundings.host);
    let exposure = expose(&listen, &settings, key.is_some())?;
    let metrics = Metrics::install()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let inherited = matches!(listen, Listen::Inherited(_));
    let (listener, place) = bind(listen).await?;
    let loading = Loading::default();
    let serve = server::serve(listener, loading.router(), tasks.clone(), stop.clone());
    // Who connects to an inherited socket waits for the model; others are told that it is loaded.
    let waiting = if inherited {
        Some(serve)
    } else {
        tasks.spawn(serve);
        None
    };
    let model = tokio::select! {
        loaded = load(&settings, surroundings, &start) => loaded?,
        () = signals.received() => {
            tracing::info!("stopped while its model was loaded");
            return Ok(());
        }
    };
    let routes =
        serving::model_server_routes(model.clone()).merge(http::metrics::routes(metrics.clone()));
    let door = exposure.open(Door::new(authenticate(key)), &settings.server);
    loading.open(door.guard(routes.into_router()));
    tasks.spawn(metrics.upkeep(stop.clone()));
    if let Some(serve) = waiting {
        tasks.spawn(serve);
    }
    greet(&model, &place, started)?;

    signals.received().await;
    drain(&model, start.drain_delay).await;
    stop.cancel();
    tasks.close();
    let limit = Duration::from_millis(settings.server.stop_timeout_ms);
    finish(&tasks, limit).await;
    tracing::info!("stopped");
    Ok(())
}

/// Says in its health that it ends, for whoever sends it requests to see that.
async fn drain(model: &ModelServer, delay: Duration) {
    tracing::info!("draining");
    model.drain();
    tokio::time::sleep(delay).await;
}

async fn load(
    settings: &Settings,
    surroundings: &Surroundings,
    start: &Start,
) -> anyhow::Result<ModelServer> {
    let sandbox = Sandbox::detect(&settings.sandbox).await?;
    let data_dir = data_dir(settings, surroundings)?;
    let environment = match &start.environment {
        Some(root) => Some(Environment::at(root).ok_or_else(|| {
            let message = format!("{} is no complete environment", root.display());
            Failure::new(Exit::NotFound, message).help(
                "name a folder below environments/ of a data directory, or leave the flag out",
            )
        })?),
        None => None,
    };
    let environments = match &environment {
        Some(_) => None,
        None => {
            let opened = Environments::open(&settings.environments, &data_dir, sandbox.clone());
            Some(
                opened
                    .await
                    .context("cannot open the store of Python environments")?,
            )
        }
    };
    let model = ModelFolder {
        name: start.name.clone(),
        version: start.version,
        folder: start.folder.clone().into(),
        environment,
        proof: start.proof.clone(),
    };
    let home = data_dir.join("serving");
    let variables = Variables::of_environment(&surroundings.host);
    let config = settings.serving.clone();
    let loaded = ModelServer::load(model, variables, environments, sandbox, config, home);
    Ok(loaded.await.map_err(told)?)
}

/// A failure to load in the words that the HTTP answer would have.
fn told(error: serving::Error) -> Failure {
    let exit = match error.code() {
        Code::NotFound => Exit::NotFound,
        _ => Exit::Failure,
    };
    let failure = Failure::of(exit, &error);
    match error.help() {
        Some(help) => failure.help(help),
        None => failure,
    }
}

fn expose(listen: &Listen, settings: &Settings, keyed: bool) -> Result<Exposure, Failure> {
    let Listen::Tcp(address) = listen else {
        return Ok(Exposure::Local);
    };
    // A key counts more than the flag, which every image has.
    if keyed {
        return Ok(Exposure::Keyed);
    }
    Exposure::of(*address, &settings.server, false, false).map_err(|_| {
        let message = format!(
            "refusing to listen on {}: others can reach that address, and this model server knows no key",
            address.0
        );
        Failure::new(Exit::Failure, message).help(
            "listen on 127.0.0.1; or set ASGARD_MODEL_KEY_SHA256 to the SHA-256 of a key; or, inside a container or on a closed network, pass --insecure-allow-anonymous",
        )
    })
}

/// Without a key no credentials are known: who may come in is decided by the address.
fn authenticate(key: Option<ModelKey>) -> Authenticate {
    Arc::new(move |Credentials { token }| {
        let caller = match &key {
            None => Some(Identity::Local),
            Some(key) => key.is(&token).then(|| Identity::Key {
                id: "model".to_owned(),
                name: "model".to_owned(),
                role: Role::Runner,
            }),
        };
        Box::pin(async { Ok(caller) })
    })
}

async fn bind(listen: Listen) -> anyhow::Result<(Listener, String)> {
    match listen {
        Listen::Tcp(address) => {
            let listener = Listener::bind(address).await.map_err(|e| {
                let help = e.help();
                Failure::of(Exit::Failure, &e).help(help)
            })?;
            let place = format!("http://{}", listener.address()?);
            Ok((listener, place))
        }
        Listen::Inherited(listener) => {
            let listener = Listener::adopt_local(listener)?;
            Ok((listener, "its own socket".to_owned()))
        }
    }
}

fn greet(model: &ModelServer, place: &str, started: Instant) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} version {} answers at {place} after {:.2} s",
        model.name(),
        model.version(),
        started.elapsed().as_secs_f64()
    )?;
    out.flush()
}
