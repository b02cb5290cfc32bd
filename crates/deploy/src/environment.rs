//! The variables of replicas at rest: sealed, as their values may be secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::error::Error;
use crate::{Deployments, store};

/// How many deployments of earlier versions are sealed in one transaction.
const AT_ONCE: i64 = 200;

/// The variables of a deployment's replicas, as its row has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Environment {
    /// As they are: there are none, or a server that shares the database has no key to open them.
    Plain(BTreeMap<String, String>),
    /// Nothing is known of them but with the key.
    Sealed(String),
}

impl Default for Environment {
    fn default() -> Self {
        Self::Plain(BTreeMap::new())
    }
}

impl Environment {
    /// The variables, of a deployment that was [opened](Deployments::opened).
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        match self {
            Self::Plain(variables) => variables.clone(),
            Self::Sealed(_) => BTreeMap::new(),
        }
    }
}

/// What they are sealed for.
fn owner(id: &str) -> String {
    format!("environment of deployment {id}")
}

impl Deployments {
    /// Variables as they are stored: sealed, where every server that may start the replicas has the key.
    pub(crate) fn seal_environment(
        &self,
        id: &str,
        environment: Environment,
    ) -> Result<Environment, Error> {
        let seal = &self.inner.parts.seal;
        let Environment::Plain(variables) = &environment else {
            return Ok(environment);
        };
        if variables.is_empty() || !seal.is_common() {
            return Ok(environment);
        }
        let text = serde_json::Value::from_iter(variables.clone()).to_string();
        let sealed = seal.seal(&owner(id), &text);
        sealed
            .map(Environment::Sealed)
            .map_err(|source| of_seal(id, source))
    }

    /// A deployment with its variables. Whatever starts replicas, or shows what they are, does so with
    /// an opened one.
    ///
    /// # Errors
    /// [`Error::Sealed`] when they were sealed with another key.
    pub(crate) fn opened(&self, mut deployment: Deployment) -> Result<Deployment, Error> {
        let Environment::Sealed(sealed) = &deployment.order.environment else {
            return Ok(deployment);
        };
        let id = &deployment.id;
        let text = self.inner.parts.seal.unseal(&owner(id), sealed.as_str());
        let text = text.map_err(|source| of_seal(id, source))?;
        let variables = serde_json::from_str(&text).map_err(|_| Error::Stored {
            id: id.clone(),
            column: "request",
        })?;
        deployment.order.environment = Environment::Plain(variables);
        Ok(deployment)
    }

    /// Seals the variables that an earlier version left as they were.
    ///
    /// # Errors
    /// When the database fails; what was sealed before stays so.
    pub async fn seal_plain_environments(&self) -> Result<(), Error> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let mut tx = self.db().begin().await?;
            let plain = store::environments::list_plain(&mut tx, &after, AT_ONCE).await?;
            let Some(last) = plain.last() else { break };
            after.clone_from(&last.id);
            for row in plain {
                // What this version cannot read is left to the one that can.
                let Some(mut order) = row.order else { continue };
                order.environment = self.seal_environment(&row.id, order.environment)?;
                let sealed = matches!(order.environment, Environment::Sealed(_));
                count += usize::from(sealed);
                store::environments::set_order(&mut tx, &row.id, &order).await?;
            }
            tx.commit().await?;
        }
        if count > 0 {
            tracing::info!(count, "the variables of deployments were sealed");
        }
        Ok(())
    }
}

fn of_seal(id: &str, source: db::SealError) -> Error {
    Error::Sealed {
        id: id.to_owned(),
        source,
    }
}
