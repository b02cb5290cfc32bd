//! The uv program: finding it, and running it in a sandbox.

mod bootstrap;
mod failure;
mod find;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::{Limits, Mount, Network, Sandbox, Spec};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) use bootstrap::bootstrap;
pub(crate) use failure::failure;
pub(crate) use find::find;

use crate::config::{Config, HostEnvironment};
use crate::error::Error;

/// How much of a command's output is kept.
const OUTPUT_LIMIT: u64 = 4 << 20;

/// Of each command: more than the largest machine-learning packages take to install or import.
const MEMORY_LIMIT: u64 = 8 << 30;

/// A uv program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uv {
    pub(crate) program: PathBuf,
    /// `0.13.8`
    pub(crate) version: String,
    /// The variable that makes it trust the system's certificates; its name has changed.
    certificates: &'static str,
}

/// One call of uv, or of an interpreter, in a sandbox.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) attempt: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) network: Network,
    pub(crate) stdin: String,
    /// A writable host folder, for levels without private files.
    pub(crate) scratch: PathBuf,
    pub(crate) timeout: Duration,
}

/// What a call that ended said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Uv {
    /// The environment of each uv command: where packages come from and how it is reached.
    pub(crate) fn env(&self, config: &Config, cache: &Path) -> Vec<(OsString, OsString)> {
        let mut env: Vec<(OsString, OsString)> = vec![
            ("UV_CACHE_DIR".into(), cache.into()),
            ("UV_NO_CONFIG".into(), "1".into()),
            ("UV_NO_PROGRESS".into(), "1".into()),
            ("UV_PYTHON_DOWNLOADS".into(), "never".into()),
            (self.certificates.into(), "1".into()),
            ("NO_COLOR".into(), "1".into()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
        ];
        for (name, value) in index_settings(config) {
            env.push((name.into(), value.into()));
        }
        env
    }
}

/// Variables for uv from the configuration, else the user's uv variables, else pip's.
fn index_settings(config: &Config) -> Vec<(String, String)> {
    let host = &config.host;
    let mut settings: Vec<(String, String)> = host
        .iter()
        .filter(|(name, _)| is_passed_on(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut unless_set = |name: &str, others: &[&str], value: Option<String>| {
        let is_set = |n: &str| settings.iter().any(|(set, _)| set == n);
        if let Some(value) = value
            && !is_set(name)
            && !others.iter().any(|other| is_set(other))
        {
            settings.push((name.to_owned(), value));
        }
    };
    unless_set(
        "UV_DEFAULT_INDEX",
        &["UV_INDEX_URL"],
        host.get("PIP_INDEX_URL").map(str::to_owned),
    );
    unless_set(
        "UV_INDEX",
        &["UV_EXTRA_INDEX_URL"],
        host.get("PIP_EXTRA_INDEX_URL").map(str::to_owned),
    );
    // pip separates by spaces, uv by commas; pip passes over folders that are not there.
    let find_links = host.get("PIP_FIND_LINKS").map(|links| {
        let there = |link: &&str| link.contains("://") || Path::new(link).is_dir();
        let links: Vec<&str> = links.split_whitespace().filter(there).collect();
        links.join(",")
    });
    unless_set("UV_FIND_LINKS", &[], find_links.filter(|l| !l.is_empty()));
    if let Some(url) = &config.index_url {
        settings.retain(|(name, _)| name != "UV_INDEX_URL" && name != "UV_DEFAULT_INDEX");
        settings.push(("UV_DEFAULT_INDEX".to_owned(), url.clone()));
    }
    settings
}

/// Settings of the index and the network; others, as UV_PROJECT, would change what uv does.
fn is_passed_on(name: &str) -> bool {
    const UV: [&str; 8] = [
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_NO_INDEX",
        "UV_INSECURE_HOST",
        "UV_HTTP_TIMEOUT",
        "UV_HTTP_RETRIES",
        "UV_CONCURRENT_DOWNLOADS",
    ];
    let is_index = name == "UV_INDEX" || name.starts_with("UV_INDEX_");
    let is_network = !name.starts_with("UV_") && !name.starts_with("PIP_");
    is_index || UV.contains(&name) || (is_network && name != "PATH" && name != "HOME")
}

/// Files of the host that the index settings name: certificates and folders of packages.
pub(crate) fn named_files(host: &HostEnvironment) -> Vec<Mount> {
    let links = ["UV_FIND_LINKS", "PIP_FIND_LINKS"]
        .into_iter()
        .filter_map(|name| host.get(name))
        .flat_map(|links| links.split([',', ' ']));
    ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| host.get(name))
        .chain(links)
        .map(|path| path.strip_prefix("file://").unwrap_or(path))
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.exists())
        // The sandbox has these already, and cannot put one inside another that is read-only.
        .filter(|path| !path.starts_with("/usr") && !path.starts_with("/etc/ssl/certs"))
        .map(Mount::read_only)
        .collect()
}

impl Call {
    /// Runs to the end.
    pub(crate) async fn run(self, sandbox: &Sandbox) -> Result<Output, Error> {
        let attempt = self.attempt;
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.run_unbounded(sandbox)).await {
            Ok(output) => output,
            // The future is gone, and with it the process and all it started.
            Err(_) => Err(Error::Timeout {
                attempt,
                seconds: timeout.as_secs(),
            }),
        }
    }

    async fn run_unbounded(self, sandbox: &Sandbox) -> Result<Output, Error> {
        let private = sandbox.has_private_files();
        let work_dir = if private {
            PathBuf::from("/tmp")
        } else {
            self.scratch.clone()
        };
        let mut env = self.env;
        env.push(("HOME".into(), work_dir.clone().into()));
        env.push(("TMPDIR".into(), work_dir.clone().into()));
        let spec = Spec {
            program: self.program,
            args: self.args,
            env,
            work_dir,
            mounts: self.mounts,
            limits: Limits {
                memory_bytes: Some(MEMORY_LIMIT),
                processes: Some(1024),
                open_files: Some(16_384),
                tmp_bytes: Some(4 << 30),
                ..Limits::default()
            },
            network: self.network,
            stdin: true,
            listener: None,
        };
        let mut process = sandbox.spawn(spec).await?;
        let stdin = process.take_stdin();
        let (stdout, stderr) = (process.take_stdout(), process.take_stderr());
        let text = self.stdin;
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that ends without reading closes the pipe; its exit tells why.
                drop(stdin.write_all(text.as_bytes()).await);
            }
        };
        let (exit, (), stdout, stderr) =
            tokio::join!(process.wait(), feed, collect(stdout), collect(stderr));
        let exit = exit?;
        let stderr = match exit.signal {
            Some(signal) => format!("{stderr}\nended by signal {signal}"),
            None => stderr,
        };
        Ok(Output {
            success: exit.success(),
            stdout,
            stderr,
        })
    }
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What could be read is shown; the exit decides.
        drop((&mut pipe).take(OUTPUT_LIMIT).read_to_end(&mut bytes).await);
        drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], index_url: Option<&str>) -> Vec<(String, String)> {
        let owned = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut settings = index_settings(&Config {
            index_url: index_url.map(str::to_owned),
            host: HostEnvironment::from_variables(owned),
            ..Config::default()
        });
        settings.sort();
        settings
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn an_index_comes_from_the_configuration_then_uv_then_pip() {
        let pip = ("PIP_INDEX_URL", "https://pip.example/simple");
        let uv = ("UV_INDEX_URL", "https://uv.example/simple");
        assert_eq!(
            settings(&[pip], None),
            pairs(&[("UV_DEFAULT_INDEX", pip.1)])
        );
        assert_eq!(settings(&[pip, uv], None), pairs(&[uv]));
        assert_eq!(
            settings(&[pip, uv], Some("https://own.example")),
            pairs(&[("UV_DEFAULT_INDEX", "https://own.example")])
        );
    }

    #[test]
    fn only_settings_of_index_and_network_reach_uv() {
        let kept = [("HTTPS_PROXY", "http://proxy"), ("UV_NO_INDEX", "1")];
        let dropped = [
            ("UV_PROJECT", "/x"),
            ("UV_CACHE_DIR", "/x"),
            ("HOME", "/root"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ];
        let all: Vec<_> = kept.into_iter().chain(dropped).collect();
        assert_eq!(settings(&all, None), pairs(&kept));
    }
}
