//! A data directory with an environment store in it.

use std::path::Path;
use std::sync::Mutex;

use environments::{
    Config, Environment, EnvironmentRequest, Environments, Error, HostEnvironment, Step,
};
use sandbox::{Exit, Limits, Network, Sandbox, Spec};
use tokio::io::AsyncReadExt as _;

pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::detect(&sandbox::Config::default()).await.unwrap()
}

/// Nothing configured: uv is found, or installed into the data directory.
pub(crate) fn bare_config() -> Config {
    Config {
        host: HostEnvironment::from_variables(std::env::vars()),
        ..Config::default()
    }
}

/// With a uv that all tests share, since installing it takes longer than most of them.
pub(crate) async fn config() -> Config {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uv");
    std::fs::create_dir_all(&shared).unwrap();
    let lock = std::fs::File::create(shared.join("lock")).unwrap();
    lock.lock().unwrap();
    let program = shared.join("tools/uv/bin/uv");
    if !program.exists() {
        let environments = open(&shared, &bare_config()).await;
        ensure(&environments, &request(&[])).await.unwrap();
    }
    Config {
        // Absent when it was found elsewhere.
        uv: program.exists().then_some(program),
        ..bare_config()
    }
}

/// As [`config`], but nothing answers, and each list is resolved anew.
pub(crate) async fn offline() -> Config {
    let nowhere = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]
        .map(|name| (name.to_owned(), "http://127.0.0.1:9".to_owned()));
    let no_retries = ("UV_HTTP_RETRIES".to_owned(), "0".to_owned());
    let variables = std::env::vars().chain(nowhere).chain([no_retries]);
    Config {
        host: HostEnvironment::from_variables(variables),
        resolution_ttl_s: 0,
        ..config().await
    }
}

pub(crate) async fn open(data_dir: &Path, config: &Config) -> Environments {
    Environments::open(config, data_dir, sandbox().await)
        .await
        .unwrap()
}

pub(crate) fn request(requirements: &[&str]) -> EnvironmentRequest {
    EnvironmentRequest {
        requirements: requirements.iter().map(|r| (*r).to_owned()).collect(),
        ..EnvironmentRequest::default()
    }
}

/// Ensures, and gives the steps too.
pub(crate) async fn ensure(
    environments: &Environments,
    request: &EnvironmentRequest,
) -> Result<(Environment, Vec<Step>), Error> {
    let steps = Mutex::new(Vec::new());
    let environment = environments
        .ensure(request, &|step| steps.lock().unwrap().push(step))
        .await?;
    Ok((environment, steps.into_inner().unwrap()))
}

/// Runs Python code in the environment, in a sandbox without a network.
pub(crate) async fn python(environment: &Environment, code: &str) -> (Exit, String) {
    python_in(&sandbox().await, environment, code).await
}

/// The same in this sandbox.
pub(crate) async fn python_in(
    sandbox: &Sandbox,
    environment: &Environment,
    code: &str,
) -> (Exit, String) {
    let work_dir = tempfile::tempdir().unwrap();
    let spec = Spec {
        program: environment.python.clone(),
        args: vec!["-c".into(), code.into()],
        env: Vec::new(),
        work_dir: if sandbox.has_private_files() {
            "/work".into()
        } else {
            work_dir.path().to_owned()
        },
        mounts: environment.mounts(),
        limits: Limits::default(),
        network: Network::None,
        stdin: false,
        listener: None,
    };
    let mut process = sandbox.spawn(spec).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let mut stdout = process.take_stdout().unwrap();
    let mut stderr = process.take_stderr().unwrap();
    let (exit, _, _) = tokio::join!(
        process.wait(),
        stdout.read_to_string(&mut out),
        stderr.read_to_string(&mut err)
    );
    (exit.unwrap(), out + &err)
}
