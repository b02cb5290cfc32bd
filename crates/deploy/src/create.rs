//! Putting deployments in, and waiting for their end.

use std::time::Duration;

use registry::Selector;
use web::Timestamp;

use crate::deployment::{Deployment, Order, State, Target};
use crate::error::Error;
use crate::order::{Request, Source};
use crate::store::deployments::NewRow;
use crate::{Deployments, store};

/// How often a deployment is looked at though nothing told of a change: it may be made by another
/// server.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What stands for a machine where a deployment is in the cluster.
pub(crate) const CLUSTER: &str = "kubernetes";

/// What the upload of a deployment's script is sealed for.
fn sealed_for(id: &str) -> String {
    format!("deployment {id}")
}

/// Who asks, and under which key the same request is found again.
pub(crate) struct Caller<'c> {
    /// Whose keys these are; names may be taken twice.
    pub(crate) id: &'c str,
    pub(crate) label: &'c str,
    pub(crate) idempotency_key: Option<&'c str>,
}

impl Deployments {
    /// Stores what a request asks for. The same idempotency key from the same caller gives the
    /// deployment that it made.
    ///
    /// # Errors
    /// When there is no such model or version, or the key was used for another request.
    pub(crate) async fn create(
        &self,
        request: Request,
        caller: &Caller<'_>,
    ) -> Result<Deployment, Error> {
        let (training, model_version) = match &request.source {
            Source::Script(body) => (serde_json::to_string(body).ok(), None),
            Source::Registered(wanted) => {
                let version = self.version(&request.model_name, wanted.as_deref()).await?;
                (None, Some(version))
            }
        };
        let order = request.order(model_version);
        let hash = request.hash().to_owned();
        self.insert(order, training.as_deref(), &hash, caller).await
    }

    /// What stands for the machine of a deployment: all servers look after those in the cluster.
    fn home(&self, target: Target) -> &str {
        match target {
            Target::Local => &self.inner.machine,
            Target::Kubernetes => CLUSTER,
        }
    }

    pub(crate) async fn version(&self, name: &str, wanted: Option<&str>) -> Result<i64, Error> {
        let selector = Selector::parse(wanted)?;
        let registry = &self.inner.parts.registry;
        Ok(registry.resolve(name, &selector).await?.version)
    }

    /// The body of an upload as it is stored: sealed, where every server that may train it has the key.
    fn seal_training(&self, id: &str, training: &str) -> Result<String, Error> {
        if !self.inner.parts.seal.is_common() {
            return Ok(training.to_owned());
        }
        let sealed = self.inner.parts.seal.seal(&sealed_for(id), training);
        sealed.map_err(|source| Error::Sealed {
            id: id.to_owned(),
            source,
        })
    }

    /// The body of the upload that trains a deployment's script.
    pub(crate) fn open_training(&self, id: &str, stored: String) -> Result<String, Error> {
        if stored.starts_with('{') {
            return Ok(stored);
        }
        let opened = self.inner.parts.seal.unseal(&sealed_for(id), &stored);
        opened.map_err(|source| Error::Sealed {
            id: id.to_owned(),
            source,
        })
    }

    /// Stores an order and has it carried out.
    pub(crate) async fn insert(
        &self,
        mut order: Order,
        training: Option<&str>,
        plain_hash: &str,
        caller: &Caller<'_>,
    ) -> Result<Deployment, Error> {
        let label = caller.label;
        let key = caller
            .idempotency_key
            .map(|key| format!("{} {key}", caller.id));
        let id = ulid::Ulid::new().to_string().to_lowercase();
        // A hash of variables would tell them to whoever guesses.
        let seal = &self.inner.parts.seal;
        let tells = training.is_some() || !order.environment.is_empty();
        let request_hash = match tells && seal.is_common() {
            true => seal.digest(plain_hash),
            false => plain_hash.to_owned(),
        };
        order.environment = self.seal_environment(&id, order.environment)?;
        let training = training
            .map(|training| self.seal_training(&id, training))
            .transpose()?;
        let mut tx = self.db().begin().await?;
        let (namespace, model_name) = (&order.namespace, &order.model_name);
        let machine =
            store::endpoints::machine_of(&mut tx, namespace, model_name, self.home(order.target))
                .await?;
        if (machine == CLUSTER) != (order.target == Target::Kubernetes) {
            return Err(Error::OtherTarget {
                model_name: model_name.clone(),
                namespace: namespace.clone(),
                target: order.target,
            });
        }
        let row = NewRow {
            id: &id,
            order: &order,
            machine: &machine,
            training: training.as_deref(),
            state: if order.trains {
                State::Training
            } else {
                State::Building
            },
            idempotency_key: key.as_deref(),
            request_hash: &request_hash,
            created_by: label,
            now: Timestamp::now().0,
        };
        let inserted = store::deployments::insert(&mut tx, &row).await?;
        let deployment = match &key {
            Some(key) if !inserted => {
                let found = store::deployments::find_by_idempotency_key(&mut tx, key).await?;
                let (hash, deployment) = found.ok_or_else(|| Error::NotFound(id.clone()))?;
                // Earlier versions kept the hash itself.
                if hash != request_hash && hash != plain_hash {
                    let key = caller.idempotency_key.unwrap_or_default();
                    return Err(Error::IdempotencyKey(key.to_owned()));
                }
                deployment
            }
            _ => store::deployments::find(&mut tx, &id)
                .await?
                .ok_or(Error::NotFound(id))?,
        };
        tx.commit().await?;
        if inserted {
            tracing::info!(
                deployment_id = %deployment.id, model = %deployment.order.model_name,
                created_by = label, "a deployment waits"
            );
            self.inner.arrived.notify_one();
        }
        Ok(deployment)
    }

    /// Waits until a deployment has ended, for `limit` at most; then as it stands.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is removed meanwhile.
    pub(crate) async fn ended(&self, id: &str, limit: Duration) -> Result<Deployment, Error> {
        let mut changes = self.inner.changes.subscribe();
        let ended = tokio::time::timeout(limit, async {
            loop {
                changes.mark_unchanged();
                let deployment = self.get(id).await?;
                if deployment.state.is_final() {
                    return Ok(deployment);
                }
                // The sender lives as long as these deployments do.
                let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
            }
        });
        match ended.await {
            Ok(ended) => ended,
            Err(_) => self.get(id).await,
        }
    }

    /// A deployment by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) async fn get(&self, id: &str) -> Result<Deployment, Error> {
        let mut conn = self.db().acquire().await?;
        store::deployments::find(&mut conn, id)
            .await?
            .ok_or_else(|| Error::NotFound(id.to_owned()))
    }
}
