//! Finding a uv that runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::Uv;
use super::bootstrap::installed;
use crate::config::Config;
use crate::error::Error;

/// Looks in the configuration, on PATH, in the user's folders, and among the tools that an
/// earlier start installed.
pub(crate) async fn find(config: &Config, tools: &Path) -> Result<Option<Uv>, Error> {
    if let Some(path) = &config.uv {
        return ask(path).await.map(Some).map_err(|reason| Error::Uv {
            reason: format!("is not at environments.uv = {}: {reason}", path.display()),
            help: "correct environments.uv, or leave it out to have uv found or installed"
                .to_owned(),
        });
    }
    let path = config.host.get("PATH").unwrap_or("/usr/local/bin:/usr/bin");
    let home = config.host.get("HOME").map(PathBuf::from);
    let in_home = home
        .iter()
        .flat_map(|home| [".local/bin", ".cargo/bin"].map(|folder| home.join(folder)));
    let folders = std::env::split_paths(path).chain(in_home);
    let candidates = folders
        .filter(|folder| !folder.ends_with("shims"))
        .map(|folder| folder.join("uv"))
        .chain([installed(tools)]);
    for candidate in candidates {
        if candidate.exists()
            && let Ok(uv) = ask(&candidate).await
        {
            return Ok(Some(uv));
        }
    }
    Ok(None)
}

/// Asks the program at `path` for its version and options.
pub(super) async fn ask(path: &Path) -> Result<Uv, String> {
    let program = std::fs::canonicalize(path).map_err(|e| e.to_string())?;
    let said = async |argument: &str| {
        let output = Command::new(&program)
            .arg(argument)
            .env_clear()
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{argument} fails"))
        }
    };
    let version = said("--version").await?;
    let version = version
        .strip_prefix("uv ")
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| format!("calls itself {:?}", version.trim()))?
        .to_owned();
    let certificates = if said("--help").await?.contains("--system-certs") {
        "UV_SYSTEM_CERTS"
    } else {
        "UV_NATIVE_TLS"
    };
    Ok(Uv {
        program,
        version,
        certificates,
    })
}
