//! `asgard up`: the start-up page.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use db::Db;
use sandbox::Sandbox;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::{Door, Timestamp};

use crate::failure::{Exit, Failure};
use crate::mlflow_ui;
use crate::platform::{self, Ground, Platform};
use crate::private_folder;
use crate::server::{self, Address, DeploymentServer, Exposure, JobServer, Listener, Metrics};
use crate::settings::Settings;
use crate::status::About;
use crate::stop_signals::StopSignals;
use crate::surroundings::Surroundings;

/// Runs the server until it is told to stop.
///
/// # Errors
/// When it cannot start: the directory is taken, the address is taken or refused, the database
/// does not answer. Each says what to do.
pub async fn up(settings: Settings, surroundings: &Surroundings) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = &settings.server;
    let data_dir = data_dir(&settings, surroundings)?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    server::raise_open_files();

    let db = open_database(&settings, &data_dir).await?;
    let keyed = crate::key::Keys::new(db.clone())
        .any_valid(Timestamp::now().0)
        .await?;
    let address = address(&config.listen, "server.listen")?;
    let exposure = expose(address, &settings, keyed)?;
    let listener = bind(address).await?;
    let listen_url = url(listener.address()?);
    // For jobs that share this machine's network: whoever comes here without a token is nobody.
    let for_jobs = bind(Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?;

    let metrics = Metrics::install()?;
    let sandbox = Sandbox::detect(&settings.sandbox).await?;
    let job_server = JobServer::new(tasks.clone());
    let deployment_server = DeploymentServer::new(
        tasks.clone(),
        config.clone(),
        settings.deploy.url_host.clone(),
        scripts_inside(&settings),
        keyed,
    );
    let platform = Platform::build(Ground {
        settings: &settings,
        data_dir: &data_dir,
        db: db.clone(),
        sandbox,
        about: About {
            started,
            listen_url: listen_url.clone(),
            public_url: config.url.clone(),
            database: platform::database_name(&db),
        },
        metrics,
        job_server: job_server.clone(),
        deployment_server: deployment_server.clone(),
        program: std::env::current_exe().context("cannot find this program")?,
        jobs_url: url(for_jobs.address()?),
    })
    .await?;

    let router = platform.routes().into_router();
    let authenticate = platform.authenticate();
    job_server.set_routes(router.clone(), authenticate.clone());
    deployment_server.set_authenticate(authenticate.clone());
    let guarded = |exposure: Exposure| {
        let door = exposure.open(Door::new(authenticate.clone()), config);
        door.guard(router.clone())
    };
    if let Some(second) = &config.mlflow_listen {
        let address = self::address(second, "server.mlflow_listen")?;
        let router = mlflow_ui::at_the_root(guarded(expose(address, &settings, keyed)?));
        let listener = bind(address).await?;
        tasks.spawn(server::serve(listener, router, tasks.clone(), stop.clone()));
    }
    let mut signals = StopSignals::new()?;
    let door = Door::new(authenticate.clone()).guard(router.clone());
    tasks.spawn(server::serve(for_jobs, door, tasks.clone(), stop.clone()));
    tasks.spawn(server::serve(
        listener,
        mlflow_ui::below_its_path(guarded(exposure)),
        tasks.clone(),
        stop.clone(),
    ));
    platform.work(&tasks, &stop);
    let page = platform.has_mlflow_ui().await;
    greet(&listen_url, &data_dir, page, exposure, started)?;

    signals.received().await;
    tracing::info!("stopping");
    stop.cancel();
    tasks.close();
    finish(&tasks, Duration::from_millis(config.stop_timeout_ms)).await;
    db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// The data directory: as set, else in the user's data home.
///
/// # Errors
/// When nothing says where that is.
pub fn data_dir(settings: &Settings, surroundings: &Surroundings) -> Result<PathBuf, Failure> {
    let home = surroundings.data_home.as_ref();
    settings
        .server
        .data_dir
        .clone()
        .or_else(|| home.map(|home| home.join("asgard")))
        .ok_or_else(|| {
            Failure::new(
                Exit::Failure,
                "there is no place for the data: HOME is not set",
            )
            .help("name one: asgard up --data-dir DIRECTORY")
        })
}

/// Opens the database and brings it up to date.
///
/// # Errors
/// When another process holds the directory or the database does not answer.
pub async fn open_database(settings: &Settings, data_dir: &Path) -> anyhow::Result<Db> {
    let db = connect(settings, data_dir).await?;
    let steps = db.migrate(platform::MIGRATIONS).await?;
    let all: usize = platform::MIGRATIONS.iter().map(|of| of.steps.len()).sum();
    if steps.len() == all {
        tracing::info!(steps = all, "a new database is made");
        return Ok(db);
    }
    for step in steps {
        tracing::info!(
            part = step.domain,
            step = step.name,
            "the database is changed"
        );
    }
    Ok(db)
}

/// Opens the database as it is.
///
/// # Errors
/// When another process holds the directory or the database does not answer.
pub async fn connect(settings: &Settings, data_dir: &Path) -> anyhow::Result<Db> {
    private_folder::make(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    Db::open(&settings.database, data_dir)
        .await
        .with_context(|| match settings.database.display_url() {
            Some(url) => format!("cannot open the database {url}"),
            None => format!("cannot open the database in {}", data_dir.display()),
        })
}

fn address(text: &str, key: &str) -> Result<Address, Failure> {
    Address::parse(text)
        .map_err(|e| Failure::new(Exit::Usage, format!("{key}: {e}")).help(e.help()))
}

fn expose(address: Address, settings: &Settings, keyed: bool) -> Result<Exposure, Failure> {
    Exposure::of(address, &settings.server, scripts_inside(settings), keyed)
        .map_err(|e| Failure::new(Exit::Failure, e.to_string()).help(e.help()))
}

/// Whether code of users runs in this machine's network: scripts, or the builds of their packages.
fn scripts_inside(settings: &Settings) -> bool {
    settings.jobs.network == jobs::Network::Host || settings.environments.allow_source_builds
}

async fn bind(address: Address) -> Result<Listener, Failure> {
    Listener::bind(address).await.map_err(|e| {
        let help = e.help();
        Failure::of(Exit::Failure, &e).help(help)
    })
}

fn url(address: SocketAddr) -> String {
    // An unspecified address is no address to call.
    let host = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    format!("http://{host}:{}", address.port())
}

fn greet(
    url: &str,
    data_dir: &Path,
    has_mlflow_ui: bool,
    exposure: Exposure,
    started: Instant,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "asgard {} answers at {url} after {:.2} s",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_secs_f64()
    )?;
    writeln!(out, "  documentation  {url}/docs")?;
    writeln!(out, "  MLflow clients MLFLOW_TRACKING_URI={url}")?;
    if has_mlflow_ui {
        writeln!(out, "  MLflow's page  {url}/mlflow/")?;
    } else {
        writeln!(out, "  MLflow's page  'asgard mlflow-ui install' adds it")?;
    }
    writeln!(out, "  data           {}", data_dir.display())?;
    match exposure {
        Exposure::Local => writeln!(
            out,
            "  open to        everyone on this machine, without a key"
        )?,
        Exposure::Keyed => writeln!(out, "  open to        holders of an API key")?,
        Exposure::OpenToAll => writeln!(
            out,
            "  open to        EVERYONE who reaches this address, to run any code: --insecure-allow-anonymous is given"
        )?,
    }
    writeln!(out, "next: asgard run train.py")?;
    out.flush()?;
    tracing::info!(url, data_dir = %data_dir.display(), "listening");
    Ok(())
}

/// Waits until every task has ended; a second interrupt, or the time limit, cuts it short.
pub(crate) async fn finish(tasks: &TaskTracker, limit: Duration) {
    tokio::select! {
        () = tasks.wait() => {}
        () = tokio::time::sleep(limit) => {
            tracing::warn!(left = tasks.len(), "some requests did not end in time");
        }
        _ = tokio::signal::ctrl_c() => tracing::warn!(left = tasks.len(), "stopping at once"),
    }
}
