//! Python interpreters of this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::config::HostEnvironment;
use crate::error::Error;

/// Versions in the order they are taken when nobody asks for one. The machine-learning packages
/// have wheels for all of them; 3.11 is the most widely tested.
const PREFERRED: [(u32, u32); 5] = [(3, 11), (3, 12), (3, 10), (3, 13), (3, 14)];

/// The oldest version that current packages support.
const OLDEST: (u32, u32) = (3, 10);

/// What an interpreter says about itself. A shim (pyenv, asdf) answers with what it leads to.
const QUESTION: &str = "import json, platform, sys, sysconfig; \
print(json.dumps(dict(version=list(sys.version_info[:3]), executable=sys.executable, \
prefixes=[sys.base_prefix, sys.base_exec_prefix], abi=sysconfig.get_config_var('SOABI') or '', \
platform=sysconfig.get_platform(), libc='-'.join(platform.libc_ver()))))";

/// One interpreter that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) executable: PathBuf,
    pub(crate) version: (u32, u32, u32),
    /// Folders outside `/usr` that it needs.
    pub(crate) prefixes: Vec<PathBuf>,
    /// Version, ABI and platform: what decides which wheels fit.
    pub(crate) identity: String,
}

impl Interpreter {
    /// `3.11.7`
    pub(crate) fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Asks the program at `path`.
    pub(crate) async fn ask(path: &Path) -> Result<Self, String> {
        let output = Command::new(path)
            .args(["-I", "-S", "-c", QUESTION])
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(20), output)
            .await
            .map_err(|_| "does not answer".to_owned())?
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said.trim().lines().last().unwrap_or("fails").to_owned());
        }
        let answer: Answer =
            serde_json::from_slice(&output.stdout).map_err(|e| format!("answers oddly: {e}"))?;
        answer.into_interpreter()
    }
}

#[derive(Deserialize)]
struct Answer {
    version: [u32; 3],
    executable: PathBuf,
    prefixes: Vec<PathBuf>,
    abi: String,
    platform: String,
    libc: String,
}

impl Answer {
    fn into_interpreter(self) -> Result<Interpreter, String> {
        let executable = std::fs::canonicalize(&self.executable)
            .map_err(|e| format!("{}: {e}", self.executable.display()))?;
        let install = executable.parent().and_then(Path::parent);
        let prefixes: BTreeSet<PathBuf> = self
            .prefixes
            .iter()
            .filter_map(|p| std::fs::canonicalize(p).ok())
            .chain(install.map(Path::to_owned))
            .filter(|p| !p.starts_with("/usr"))
            .collect();
        if let Some(broad) = prefixes.iter().find(|p| p.components().count() < 3) {
            // Mounting `/` or `/home` would show a sandbox the machine.
            return Err(format!("is installed in {}", broad.display()));
        }
        let [major, minor, patch] = self.version;
        Ok(Interpreter {
            identity: format!(
                "{major}.{minor}.{patch} {} {} {}",
                self.abi, self.platform, self.libc
            ),
            executable,
            version: (major, minor, patch),
            prefixes: prefixes.into_iter().collect(),
        })
    }
}

/// All interpreters found, best first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interpreters(Vec<Interpreter>);

impl Interpreters {
    /// Looks on PATH and where distributions, pyenv and uv install.
    pub(crate) async fn discover(host: &HostEnvironment) -> Self {
        let mut asked = JoinSet::new();
        for path in candidates(host) {
            asked.spawn(async move { Interpreter::ask(&path).await });
        }
        let mut found: Vec<Interpreter> = Vec::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok(Ok(interpreter)) = answer
                && (interpreter.version.0, interpreter.version.1) >= OLDEST
                && !found.iter().any(|f| f.executable == interpreter.executable)
            {
                found.push(interpreter);
            }
        }
        found.sort_by(|a, b| {
            rank(a.version)
                .cmp(&rank(b.version))
                .then(b.version.cmp(&a.version))
                .then(a.executable.cmp(&b.executable))
        });
        Self(found)
    }

    /// The best interpreter, or the best of the version asked for.
    pub(crate) fn pick(&self, wanted: Option<&str>) -> Result<&Interpreter, Error> {
        let fits = |interpreter: &&Interpreter| match wanted {
            None => true,
            Some(version) => {
                let text = interpreter.version_text();
                text == version || text.starts_with(&format!("{version}."))
            }
        };
        self.0.iter().find(fits).ok_or_else(|| {
            let versions: Vec<String> = self.0.iter().map(Interpreter::version_text).collect();
            Error::Python {
                wanted: wanted.unwrap_or(">= 3.10").to_owned(),
                found: match versions.as_slice() {
                    [] => "there is no other".to_owned(),
                    some => format!("there are {}", some.join(", ")),
                },
                help: "install it (apt-get install python3, or uv python install), or set environments.python to an interpreter's absolute path".to_owned(),
            }
        })
    }

    pub(crate) fn list(&self) -> &[Interpreter] {
        &self.0
    }
}

fn rank((major, minor, _): (u32, u32, u32)) -> usize {
    PREFERRED
        .iter()
        .position(|p| *p == (major, minor))
        .unwrap_or(PREFERRED.len())
}

/// Paths that may be interpreters, each once.
fn candidates(host: &HostEnvironment) -> BTreeSet<PathBuf> {
    let path = host.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let mut folders: Vec<PathBuf> = std::env::split_paths(path).collect();
    folders.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    if let Some(home) = host.get("HOME").map(Path::new) {
        for versions in [".pyenv/versions", ".local/share/uv/python"] {
            let entries = std::fs::read_dir(home.join(versions)).into_iter().flatten();
            folders.extend(entries.flatten().map(|entry| entry.path().join("bin")));
        }
    }
    folders
        .iter()
        // Shims run what the current folder's settings say, or fail.
        .filter(|folder| !folder.ends_with("shims"))
        .flat_map(|folder| {
            let versioned = PREFERRED.map(|(major, minor)| format!("python{major}.{minor}"));
            versioned
                .into_iter()
                .chain(["python3".to_owned(), "python".to_owned()])
                .map(|name| folder.join(name))
        })
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .collect()
}
