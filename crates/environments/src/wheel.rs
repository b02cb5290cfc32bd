//! Unpacking one wheel for its files, without making an environment of it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::config::Config;
use crate::error::Error;
use crate::interpreter::Interpreters;
use crate::uv::{self, Output, Uv};

const ATTEMPT: &str = "unpacking a wheel";

/// Fetches the wheel of one requirement from the package index and unpacks it into `target`, a
/// new folder on the disk of the data directory. None of its code runs, and nothing that it
/// depends on comes with it.
///
/// # Errors
/// When there is neither uv nor a Python to install it with, no such wheel, or no index.
pub async fn unpack_wheel(
    config: &Config,
    data_dir: &Path,
    requirement: &str,
    target: &Path,
) -> Result<(), Error> {
    let tools = data_dir.join("tools");
    let interpreters = Interpreters::discover(&config.host).await;
    let uv = match uv::find(config, &tools).await? {
        Some(uv) => uv,
        None => uv::bootstrap(config, &interpreters, &tools).await?,
    };
    let Some(python) = interpreters.list().first() else {
        return Err(Error::Python {
            wanted: ">= 3.10".to_owned(),
            found: "none is on PATH".to_owned(),
            help: "install python3".to_owned(),
        });
    };
    let mut args: Vec<OsString> = [
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build",
        "--no-cache",
        "--python",
    ]
    .map(OsString::from)
    .to_vec();
    args.push(python.executable.clone().into());
    args.extend(["--target".into(), target.into(), requirement.into()]);
    run(&uv, config, target, args).await
}

async fn run(uv: &Uv, config: &Config, target: &Path, args: Vec<OsString>) -> Result<(), Error> {
    let failed = |message: String| Error::Build {
        attempt: ATTEMPT,
        message,
        output: String::new(),
    };
    let child = Command::new(&uv.program)
        .args(args)
        .env_clear()
        .envs(uv.env(config, &target.with_extension("cache")))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let limit = Duration::from_secs(config.build_timeout_s);
    let output = tokio::time::timeout(limit, child)
        .await
        .map_err(|_| Error::Timeout {
            attempt: ATTEMPT,
            seconds: limit.as_secs(),
        })?
        .map_err(|error| failed(format!("uv does not start: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(uv::failure(
        ATTEMPT,
        &Output {
            success: false,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        },
    ))
}
