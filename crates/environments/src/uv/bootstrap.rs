//! Installing uv where there is none, with the pip that comes with Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::Uv;
use super::find::ask;
use crate::config::Config;
use crate::error::Error;
use crate::interpreter::Interpreters;

const INSTALL: &str = "install uv and set environments.uv to its path, or give Python its pip: apt-get install python3-pip (or python3-venv)";

/// Where [`bootstrap`] puts the program.
pub(super) fn installed(tools: &Path) -> PathBuf {
    tools.join("uv/bin/uv")
}

/// Installs uv from the package index into `tools`. Only a wheel is taken, so no code runs.
pub(crate) async fn bootstrap(
    config: &Config,
    interpreters: &Interpreters,
    tools: &Path,
) -> Result<Uv, Error> {
    let failed = |reason: String| Error::Uv {
        reason,
        help: INSTALL.to_owned(),
    };
    let store = |source| Error::Store {
        attempt: "install uv in",
        path: tools.to_owned(),
        source,
    };
    fs::create_dir_all(tools).map_err(store)?;
    let scratch = tempfile::Builder::new()
        .prefix(".uv-")
        .tempdir_in(tools)
        .map_err(store)?;
    let mut reasons = Vec::new();
    for interpreter in interpreters.list() {
        let target = scratch.path().join("uv");
        match install(config, &interpreter.executable, scratch.path(), &target).await {
            Ok(()) => {
                let place = tools.join("uv");
                // An older one that no longer runs, or one that another start put there just now.
                if place.exists() {
                    fs::remove_dir_all(&place).map_err(store)?;
                }
                fs::rename(&target, &place).map_err(store)?;
                let uv = ask(&installed(tools)).await.map_err(|reason| {
                    failed(format!("was installed but does not run: {reason}"))
                })?;
                tracing::info!(version = uv.version, "installed uv");
                return Ok(uv);
            }
            Err(reason) => reasons.push(format!("{}: {reason}", interpreter.executable.display())),
        }
    }
    if reasons.is_empty() {
        reasons.push("there is no Python >= 3.10 to install it with".to_owned());
    }
    Err(failed(format!(
        "was not found and could not be installed: {}",
        reasons.join("; ")
    )))
}

async fn install(
    config: &Config,
    python: &Path,
    scratch: &Path,
    target: &Path,
) -> Result<(), String> {
    let pip_of_its_own = run(config, python, &["pip", "--version"]).await;
    let python = if pip_of_its_own.is_ok() {
        python.to_owned()
    } else {
        let venv = scratch.join("venv");
        let folder = venv.to_string_lossy().into_owned();
        run(config, python, &["venv", &folder])
            .await
            .map_err(|e| format!("it has neither pip nor venv ({e})"))?;
        venv.join("bin/python")
    };
    let target = target.to_string_lossy().into_owned();
    run(
        config,
        &python,
        &[
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--target",
            &target,
            "uv>=0.6",
        ],
    )
    .await
}

/// Runs a module as `python -m` does, and ends when standard input does: with the server.
const MODULE_THAT_ENDS_WITH_US: &str = "
import os, runpy, sys, threading
def watch():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
";

async fn run(config: &Config, python: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(python);
    command
        .args(["-c", MODULE_THAT_ENDS_WITH_US])
        .args(args)
        .env_clear();
    for (name, value) in config.host.iter() {
        command.env(name, value);
    }
    if let Some(url) = &config.index_url {
        command.env("PIP_INDEX_URL", url);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| e.to_string())?;
    // Held until the module has ended.
    let lifeline = child.stdin.take();
    let output = tokio::time::timeout(Duration::from_secs(300), child.wait_with_output())
        .await
        .map_err(|_| "pip took longer than 300 s".to_owned())?
        .map_err(|e| e.to_string())?;
    drop(lifeline);
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(last.unwrap_or("it failed without a word").trim().to_owned())
}
