//! The work beside the requests that removes what nobody needs any more: old logs, removed
//! deployments, environments that no job and no version uses, a package cache that has grown too
//! large.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use deploy::Deployments;
use environments::{Environments, Pruned};
use jobs::Jobs;
use registry::Registry;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A server that has just started has other things to do.
const FIRST_AFTER: Duration = Duration::from_secs(600);
const EVERY: Duration = Duration::from_secs(6 * 3600);

/// What is looked through.
#[derive(Clone)]
pub(crate) struct Retention {
    pub(crate) environments: Environments,
    pub(crate) registry: Registry,
    pub(crate) jobs: Jobs,
    pub(crate) deployments: Deployments,
}

impl Retention {
    /// Removes from time to time until `stop`.
    pub(crate) async fn work(self, stop: CancellationToken) {
        let mut pause = FIRST_AFTER;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            pause = EVERY;
            stop.run_until_cancelled(self.tidy()).await;
        }
    }

    /// Removes what nobody needs. One step that fails holds up no other; each failure is told.
    pub(crate) async fn tidy(&self) -> Vec<anyhow::Error> {
        let mut failed = Failed::default();
        let logs = failed.note("removing old logs", self.jobs.prune_logs().await);
        let pruned = self.deployments.prune_removed().await;
        let deployments = failed.note("forgetting removed deployments", pruned);
        let environments = failed.note(
            "removing unused environments",
            self.prune_environments().await,
        );
        let environments = environments.unwrap_or_default();
        tracing::info!(
            logs,
            deployments,
            environments = environments.environments,
            cache = environments.cache,
            resolutions = environments.resolutions,
            failed = failed.0.len(),
            "what nobody needs was removed"
        );
        failed.0
    }

    async fn prune_environments(&self) -> anyhow::Result<Pruned> {
        let needed = self
            .registry
            .tag_values(registry::ENVIRONMENT_TAG)
            .await
            .context("asking which environments registered versions need")?;
        let needed: HashSet<String> = needed.into_iter().collect();
        Ok(self.environments.prune(needed).await?)
    }
}

/// The steps that failed.
#[derive(Default)]
struct Failed(Vec<anyhow::Error>);

impl Failed {
    fn note<T, E: Into<anyhow::Error>>(
        &mut self,
        attempt: &'static str,
        done: Result<T, E>,
    ) -> Option<T> {
        done.map_err(|error| {
            let error = error.into().context(format!("{attempt} failed"));
            tracing::error!(error = %format!("{error:#}"), "what nobody needs stays");
            self.0.push(error);
        })
        .ok()
    }
}
