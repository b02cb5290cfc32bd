//! From a request to its environment.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Environments;
use crate::build::{Builder, Patience};
use crate::environment::{Environment, EnvironmentRequest, Step};
use crate::error::Error;
use crate::flight::Progress;
use crate::interpreter::{Interpreter, Interpreters};
use crate::lock::{Lock, digest};
use crate::requirement::Requirement;
use crate::store::Resolution;
use crate::uv::{self, Uv};

impl Environments {
    /// Gives the environment of a request, building it if nobody has yet. Requests for the same
    /// environment share one build; when all of them are dropped, it is stopped.
    pub async fn ensure(
        &self,
        request: &EnvironmentRequest,
        progress: &(dyn Fn(Step) + Send + Sync),
    ) -> Result<Environment, Error> {
        let requirements = Self::sorted(request)?;
        let builder = self.builder(self.uv().await?.clone(), request).await?;
        let input = self.input(&builder, &requirements);
        if let Some(found) = self.known(&builder, &input) {
            progress(ready(&found, true));
            return Ok(found);
        }
        let builds = Arc::clone(&self.builds);
        let ttl_ms = self.config.resolution_ttl_s * 1000;
        let probe = request.probe.clone();
        let flight_key = input.clone();
        self.flights
            .join(&flight_key, progress, |progress| async move {
                let turn = builds.acquire_owned().await;
                let _turn = turn.map_err(|_| Error::stopping())?;
                let work = Work {
                    builder,
                    input,
                    requirements,
                    probe,
                };
                work.run(ttl_ms, &progress).await
            })
            .await
    }

    /// The environment of a request, if it was built before and what its list means is known:
    /// nothing is asked for, installed or built.
    pub async fn find_built(&self, request: &EnvironmentRequest) -> Option<Environment> {
        let requirements = Self::sorted(request).ok()?;
        let uv = match self.uv.get() {
            Some(uv) => uv.clone(),
            None => uv::find(&self.config, &self.store.tools).await.ok()??,
        };
        let builder = self.builder(uv, request).await.ok()?;
        self.known(&builder, &self.input(&builder, &requirements))
    }

    fn sorted(request: &EnvironmentRequest) -> Result<Vec<Requirement>, Error> {
        let mut requirements = Self::parse_requirements(&request.requirements)?;
        requirements.sort();
        requirements.dedup();
        Ok(requirements)
    }

    async fn builder(&self, uv: Uv, request: &EnvironmentRequest) -> Result<Builder, Error> {
        Ok(Builder {
            config: Arc::clone(&self.config),
            sandbox: self.sandbox.clone(),
            store: self.store.clone(),
            uv,
            interpreter: self.interpreter(request.python.as_deref()).await?,
        })
    }

    /// The built environment of a list that was resolved a short time ago.
    fn known(&self, builder: &Builder, input: &str) -> Option<Environment> {
        let resolution = self.store.resolution(input)?;
        if !is_fresh(&resolution, self.config.resolution_ttl_s * 1000) {
            return None;
        }
        self.store
            .find(&resolution.lock.key(&builder.interpreter, &builder.uv))
    }

    /// All that decides what a list is resolved to, but for time and the index's content.
    fn input(&self, builder: &Builder, requirements: &[Requirement]) -> String {
        let lines: String = requirements.iter().map(|r| format!("{r}\n")).collect();
        let settings = builder.uv.env(&self.config, &self.store.uv_cache());
        let settings: String = settings
            .iter()
            .filter(|(name, _)| name.to_string_lossy().contains("INDEX"))
            .map(|(name, value)| format!("{}={}\n", name.display(), value.display()))
            .collect();
        digest(&[
            "resolution",
            &lines,
            &builder.interpreter.identity,
            &builder.uv.version,
            &settings,
            if self.config.allow_source_builds {
                "source"
            } else {
                "wheels"
            },
            self.config.exclude_newer.as_deref().unwrap_or_default(),
        ])
    }

    /// The uv to use, installed if there is none. A failure is not remembered.
    pub(crate) async fn uv(&self) -> Result<&Uv, Error> {
        self.uv
            .get_or_try_init(|| async {
                let tools = &self.store.tools;
                match uv::find(&self.config, tools).await? {
                    Some(uv) => Ok(uv),
                    None => {
                        let interpreters = self.interpreters().await;
                        uv::bootstrap(&self.config, interpreters, tools).await
                    }
                }
            })
            .await
    }

    async fn interpreters(&self) -> &Interpreters {
        self.interpreters
            .get_or_init(|| Interpreters::discover(&self.config.host))
            .await
    }

    /// The interpreter of a request: its version, else the configured one, else the preferred.
    pub(crate) async fn interpreter(&self, wanted: Option<&str>) -> Result<Interpreter, Error> {
        if let Some(version) = wanted {
            // Never a path: what a request names is not run outside of a sandbox.
            if !is_version(version) {
                return Err(Error::Python {
                    wanted: format!("{version:?}"),
                    found: "can be no such version".to_owned(),
                    help: "ask for a version, as in 3.11".to_owned(),
                });
            }
            return self.interpreters().await.pick(Some(version)).cloned();
        }
        match self.config.python.as_deref() {
            Some(path) if Path::new(path).is_absolute() => Interpreter::ask(Path::new(path))
                .await
                .map_err(|reason| Error::Python {
                    wanted: path.to_owned(),
                    found: format!("it {reason}"),
                    help: "set environments.python to the absolute path of a Python interpreter"
                        .to_owned(),
                }),
            version => self.interpreters().await.pick(version).cloned(),
        }
    }
}

/// Whether a text is `3`, `3.11` or `3.11.7`.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split('.').count() <= 3 && text.split('.').all(is_number)
}

struct Work {
    builder: Builder,
    input: String,
    requirements: Vec<Requirement>,
    probe: Vec<String>,
}

impl Work {
    async fn run(self, ttl_ms: u64, progress: &Progress) -> Result<Environment, Error> {
        let store = &self.builder.store;
        let remembered = store.resolution(&self.input);
        let lock = match remembered {
            Some(resolution) if is_fresh(&resolution, ttl_ms) => resolution.lock,
            remembered => {
                progress.tell(Step::Resolving);
                self.resolve(remembered).await?
            }
        };
        let key = lock.key(&self.builder.interpreter, &self.builder.uv);
        let (environment, cached) = match store.find(&key) {
            Some(found) => (found, true),
            None => {
                let build = self.builder.build(&key, &lock, &self.probe, progress);
                (build.await?, false)
            }
        };
        progress.tell(ready(&environment, cached));
        Ok(environment)
    }

    /// Asks the index; when it does not answer, what the list last meant still holds.
    async fn resolve(&self, remembered: Option<Resolution>) -> Result<Lock, Error> {
        let patience = match remembered {
            Some(_) => Patience::Short,
            None => Patience::Long,
        };
        match self.builder.resolve(&self.requirements, patience).await {
            Ok(lock) => {
                let resolution = Resolution {
                    resolved_at_ms: now_ms(),
                    lock: lock.clone(),
                };
                self.builder.store.remember(&self.input, &resolution)?;
                Ok(lock)
            }
            Err(error @ (Error::Index { .. } | Error::Timeout { .. })) => match remembered {
                Some(resolution) => {
                    tracing::warn!(%error, "using the packages of an earlier resolution");
                    Ok(resolution.lock)
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

fn ready(environment: &Environment, cached: bool) -> Step {
    Step::Ready {
        packages: environment.packages.len(),
        cached,
    }
}

fn is_fresh(resolution: &Resolution, ttl_ms: u64) -> bool {
    now_ms().saturating_sub(resolution.resolved_at_ms) < ttl_ms
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
