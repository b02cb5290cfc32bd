//! The work beside the requests that removes what nobody needs any more: old logs, removed
//! deployments, environments that no job and no version uses, a package cache that has grown too
//! large.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use deploy::Deployments;
use environments::Environments;
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
            if let Some(Err(error)) = stop.run_until_cancelled(self.tidy()).await {
                tracing::error!(error = %format!("{error:#}"), "removing what is not needed failed");
            }
        }
    }

    async fn tidy(&self) -> anyhow::Result<()> {
        let logs = self.jobs.prune_logs().await?;
        let deployments = self.deployments.prune_removed().await?;
        let needed: HashSet<String> = self
            .registry
            .tag_values(registry::ENVIRONMENT_TAG)
            .await
            .context("asking which environments registered versions need")?
            .into_iter()
            .collect();
        let pruned = self.environments.prune(needed).await?;
        tracing::info!(
            logs,
            deployments,
            environments = pruned.environments,
            cache = pruned.cache,
            resolutions = pruned.resolutions,
            "what nobody needs was removed"
        );
        Ok(())
    }
}
