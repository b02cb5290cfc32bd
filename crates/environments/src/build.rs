//! Resolving a list and building its environment, each in a sandbox.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::{Mount, Network, Sandbox};

use crate::bytecode;
use crate::config::Config;
use crate::environment::{Environment, Step};
use crate::error::Error;
use crate::flight::Progress;
use crate::interpreter::Interpreter;
use crate::lock::Lock;
use crate::requirement::Requirement;
use crate::store::{Building, Store};
use crate::uv::{Call, Output, Uv, failure, named_files};

const RESOLVE: &str = "resolving the requirements";
const BUILD: &str = "building the environment";

/// Imports what it can, for the bytecode: it is written once, and nobody can write to the
/// environment later. A module that is not installed is no failure.
const PROBE: &str = "
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(f'{name}: {type(error).__name__}: {error}', file=sys.stderr)
";

/// How long to wait for an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Long,
    /// There is an earlier answer to fall back on.
    Short,
}

/// The tools of one build.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    pub(crate) config: std::sync::Arc<Config>,
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) uv: Uv,
    pub(crate) interpreter: Interpreter,
}

impl Builder {
    /// Finds the packages that meet the requirements.
    pub(crate) async fn resolve(
        &self,
        requirements: &[Requirement],
        patience: Patience,
    ) -> Result<Lock, Error> {
        let lines: String = requirements.iter().map(|r| format!("{r}\n")).collect();
        let mut args = words(&[
            "pip",
            "compile",
            "-",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--python",
        ]);
        args.push(self.interpreter.executable.clone().into());
        args.extend(self.common());
        if let Some(date) = &self.config.exclude_newer {
            args.extend(["--exclude-newer".into(), date.into()]);
        }
        let scratch = self.store.begin("resolution")?;
        let mut call = self.uv_call(RESOLVE, args, lines, &scratch);
        if patience == Patience::Short {
            call.env.push(("UV_HTTP_RETRIES".into(), "0".into()));
            call.timeout = call.timeout.min(Duration::from_secs(15));
        }
        let output = self.finish(call).await?;
        Ok(Lock {
            text: output.stdout,
        })
    }

    /// Builds, probes and publishes.
    pub(crate) async fn build(
        &self,
        key: &str,
        lock: &Lock,
        probe: &[String],
        progress: &Progress,
    ) -> Result<Environment, Error> {
        progress.tell(Step::Installing {
            packages: lock.packages().len(),
        });
        let building = self.store.begin(key)?;
        self.make_venv(&building).await?;
        if !lock.packages().is_empty() {
            self.install(&building, lock).await?;
        }
        if !probe.is_empty() {
            progress.tell(Step::Probing);
            self.probe(&building, probe).await?;
        }
        let (store, key, lock) = (self.store.clone(), key.to_owned(), lock.clone());
        let version = self.interpreter.version_text();
        let prefixes = self.interpreter.prefixes.clone();
        // Removing what is left of the build may take a while.
        let published = tokio::task::spawn_blocking(move || {
            store.publish(building, &key, (&version, &prefixes, &lock))
        });
        published.await.map_err(|_| Error::stopping())?
    }

    async fn make_venv(&self, building: &Building) -> Result<(), Error> {
        // Relocatable, since it moves when it is complete.
        let mut args = words(&["venv", "--relocatable", "--no-project", "--python"]);
        args.push(self.interpreter.executable.clone().into());
        args.push(building.root().into());
        self.run_uv(BUILD, args, String::new(), building)
            .await
            .map(|_| ())
    }

    async fn install(&self, building: &Building, lock: &Lock) -> Result<(), Error> {
        // Hard links share their content with the cache: code that could write into one would
        // change other environments. With private files jobs, and the import probe, see
        // environments read-only.
        let link = if self.sandbox.has_private_files() {
            "hardlink"
        } else {
            "copy"
        };
        let mut args = words(&[
            "pip",
            "install",
            "--no-deps",
            "--require-hashes",
            "--link-mode",
            link,
            "-r",
            "-",
            "--python",
        ]);
        args.push(building.root().join("bin/python").into());
        args.extend(self.common());
        self.run_uv(BUILD, args, lock.text.clone(), building)
            .await
            .map(|_| ())
    }

    async fn probe(&self, building: &Building, modules: &[String]) -> Result<(), Error> {
        let mut args = words(&["-c", PROBE]);
        args.extend(modules.iter().map(OsString::from));
        // Imports run code of the packages, so they may not write to the environment.
        let written = building.scratch().join("bytecode");
        std::fs::create_dir(&written).map_err(|source| Error::Store {
            attempt: "make the folder",
            path: written.clone(),
            source,
        })?;
        let mut mounts = self.interpreter_mounts();
        mounts.push(Mount::read_only(building.root()));
        mounts.push(Mount::writable(&written));
        let call = Call {
            attempt: BUILD,
            program: building.root().join("bin/python"),
            args,
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("PYTHONPYCACHEPREFIX".into(), written.clone().into()),
            ],
            mounts,
            network: Network::None,
            stdin: String::new(),
            scratch: building.scratch().to_owned(),
            timeout: Duration::from_secs(self.config.build_timeout_s),
        };
        let output = call.run(&self.sandbox).await?;
        // A package that crashes on import is its user's to find out, in the job's log.
        tracing::debug!(
            success = output.success,
            said = output.stderr.trim(),
            "import probe"
        );
        let (root, version) = (building.root().to_owned(), self.interpreter.version);
        let failed = |source| Error::Store {
            attempt: "write bytecode into",
            path: building.root().to_owned(),
            source,
        };
        let adopting =
            tokio::task::spawn_blocking(move || bytecode::adopt(&written, &root, version));
        let count = adopting
            .await
            .map_err(|_| Error::stopping())?
            .map_err(failed)?;
        tracing::debug!(count, "bytecode written");
        Ok(())
    }

    /// Options of every command that may fetch packages.
    fn common(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        if !self.config.allow_source_builds {
            args.push("--no-build".into());
        }
        args
    }

    async fn run_uv(
        &self,
        attempt: &'static str,
        args: Vec<OsString>,
        stdin: String,
        building: &Building,
    ) -> Result<Output, Error> {
        self.finish(self.uv_call(attempt, args, stdin, building))
            .await
    }

    fn uv_call(
        &self,
        attempt: &'static str,
        args: Vec<OsString>,
        stdin: String,
        building: &Building,
    ) -> Call {
        let mut mounts = self.interpreter_mounts();
        mounts.push(Mount::writable(self.store.writable()));
        mounts.extend(outside_usr(&self.uv.program).map(Mount::read_only));
        mounts.extend(named_files(&self.config.host));
        Call {
            attempt,
            program: self.uv.program.clone(),
            args,
            env: self.uv.env(&self.config, &self.store.uv_cache()),
            mounts,
            network: Network::Host,
            stdin,
            scratch: building.scratch().to_owned(),
            timeout: Duration::from_secs(self.config.build_timeout_s),
        }
    }

    async fn finish(&self, call: Call) -> Result<Output, Error> {
        let attempt = call.attempt;
        let output = call.run(&self.sandbox).await?;
        if output.success {
            Ok(output)
        } else {
            Err(failure(attempt, &output))
        }
    }

    fn interpreter_mounts(&self) -> Vec<Mount> {
        self.interpreter
            .prefixes
            .iter()
            .map(Mount::read_only)
            .collect()
    }
}

fn outside_usr(path: &Path) -> Option<PathBuf> {
    (!path.starts_with("/usr")).then(|| path.to_owned())
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
