//! The calls to the API server. What may pass is tried again for a while; a refusal is told in words.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, Preconditions};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::DynamicObject;
use kube::{Client, Error};
use serde::de::DeserializeOwned;

use super::object::{Kind, MANAGER, Object, is_ours};
use super::objects::pods_selector;
use super::refusal::{no_cluster, not_ours, refused};
use crate::cluster::Cluster;
use crate::deployment::Failure;

/// How long to wait before a call is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a connection, and an answer, may take.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);

/// The last lines of a container's log that are told when it fails.
const LOG_LINES: i64 = 30;

/// A connection to the API server.
pub(super) struct Api {
    client: Client,
    timeout: Duration,
}

impl Api {
    /// Reads the credentials; the server is not spoken to yet.
    pub(super) async fn open(cluster: &Cluster) -> Result<Self, Failure> {
        let mut config = match &cluster.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|e| no_cluster(&e))?;
                let options = KubeConfigOptions {
                    context: cluster.context.clone(),
                    ..KubeConfigOptions::default()
                };
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                config.map_err(|e| no_cluster(&e))?
            }
            None => Config::incluster().map_err(|e| no_cluster(&e))?,
        };
        // Our own patience tells what it waits for, and has a limit of the settings.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        Ok(Self {
            client: Client::try_from(config).map_err(|e| no_cluster(&e))?,
            timeout: cluster.api_timeout(),
        })
    }

    fn dynamic(&self, kind: Kind, namespace: &str) -> kube::Api<DynamicObject> {
        kube::Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    fn typed<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        kube::Api::namespaced(self.client.clone(), namespace)
    }

    /// An object as it is.
    pub(super) async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Failure> {
        let api = self.dynamic(kind, namespace);
        let got = self.patiently(|| api.get_opt(name)).await;
        got.map_err(|e| refused("read", kind, namespace, name, &e))
    }

    /// Makes an object as it should be. Fields of others stay; an object that asgard did not make
    /// is not touched.
    pub(super) async fn apply(&self, object: &Object) -> Result<(), Failure> {
        let Object {
            kind,
            namespace,
            name,
            body,
        } = object;
        let found = self.get(*kind, namespace, name).await?;
        if found.is_some_and(|found| !is_ours(&found)) {
            return Err(not_ours(*kind, namespace, name));
        }
        // The object is ours: who changed its fields by hand since gives way.
        let params = PatchParams::apply(MANAGER).force();
        let api = self.dynamic(*kind, namespace);
        let patch = Patch::Apply(body);
        // No other field manager can be in the way, so a conflict is a race with another server that
        // applies the same.
        let passes = |error: &Error| may_pass(error) || is_conflict(error);
        let applied = self.patiently_if(passes, || api.patch(name, &params, &patch));
        let applied = applied.await;
        applied
            .map(drop)
            .map_err(|e| refused("apply", *kind, namespace, name, &e))
    }

    /// Removes an object that asgard made, and what it owns.
    pub(super) async fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<(), Failure> {
        let found = self.get(kind, namespace, name).await?;
        if !found.is_some_and(|found| is_ours(&found)) {
            return Ok(());
        }
        let params = DeleteParams::background();
        self.delete_with(kind, namespace, name, &params).await
    }

    /// Removes an object that asgard made, unless it was changed or made anew since it was seen.
    pub(super) async fn delete_seen(
        &self,
        kind: Kind,
        namespace: &str,
        seen: &DynamicObject,
    ) -> Result<(), Failure> {
        // Without a name the request would be for all objects of the kind.
        let Some(name) = seen.metadata.name.as_deref().filter(|_| is_ours(seen)) else {
            return Ok(());
        };
        let params = DeleteParams::background().preconditions(Preconditions {
            resource_version: seen.metadata.resource_version.clone(),
            uid: seen.metadata.uid.clone(),
        });
        self.delete_with(kind, namespace, name, &params).await
    }

    async fn delete_with(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), Failure> {
        let api = self.dynamic(kind, namespace);
        match self.patiently(|| api.delete(name, params)).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.code == 404 => Ok(()),
            // Only of what is no longer as it was seen.
            Err(error) if params.preconditions.is_some() && is_conflict(&error) => Ok(()),
            Err(error) => Err(refused("delete", kind, namespace, name, &error)),
        }
    }

    /// A Deployment with its status.
    pub(super) async fn deployment(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Deployment>, Failure> {
        let api = self.typed::<Deployment>(namespace);
        let got = self.patiently(|| api.get_opt(name)).await;
        got.map_err(|e| refused("read", Kind::Deployment, namespace, name, &e))
    }

    /// The pods of one deployment.
    pub(super) async fn pods(&self, namespace: &str, id: &str) -> Result<Vec<Pod>, Failure> {
        let api = self.typed::<Pod>(namespace);
        let params = ListParams::default().labels(&pods_selector(id));
        let listed = self.patiently(|| api.list(&params)).await;
        let listed =
            listed.map_err(|e| refused("list", Kind::Deployment, namespace, "pods", &e))?;
        Ok(listed.items)
    }

    /// What the cluster said last about an object; nothing when that cannot be read, for it only
    /// makes a message better.
    pub(super) async fn last_event(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Option<String> {
        let api = self.typed::<Event>(namespace);
        let fields = format!(
            "involvedObject.kind={},involvedObject.name={name}",
            kind.as_str()
        );
        let listed = api
            .list(&ListParams::default().fields(&fields))
            .await
            .ok()?;
        let time = |event: &Event| event.last_timestamp.clone().map(|time| time.0);
        let last = listed.items.into_iter().max_by_key(time)?;
        last.message
    }

    /// The last lines that a container wrote; before its last restart, where it has restarted.
    pub(super) async fn log(&self, namespace: &str, pod: &str, restarted: bool) -> Option<String> {
        let params = LogParams {
            previous: restarted,
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let log = self.typed::<Pod>(namespace).logs(pod, &params).await.ok()?;
        Some(log.trim_end().to_owned()).filter(|log| !log.is_empty())
    }

    /// Calls until there is an answer that stays, for the time of the settings.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.patiently_if(may_pass, call).await
    }

    /// Calls again as long as the failure is one that `passes`.
    async fn patiently_if<T, F>(
        &self,
        passes: impl Fn(&Error) -> bool,
        call: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let patience = Instant::now() + self.timeout;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !passes(&error) || Instant::now() >= patience {
                return Err(error);
            }
            tracing::debug!(%error, "the API server is asked again");
            tokio::time::sleep(pause(&error)).await;
        }
    }
}

/// Whether the same call may succeed later: the server is busy, restarts, or forgot where a list
/// was (410).
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Api(status) => matches!(status.code, 410 | 429 | 500..=599),
        Error::HyperError(_) | Error::Service(_) => true,
        _ => false,
    }
}

/// Whether the object was changed, made or removed by somebody else just then.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

/// What the server asks for, within reason.
fn pause(error: &Error) -> Duration {
    let Error::Api(status) = error else {
        return AGAIN;
    };
    let asked = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    Duration::from_secs(asked.min(10).into()).max(AGAIN)
}
