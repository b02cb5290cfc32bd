//! The variables of replicas: sealed at rest, as their values may be secrets, and opened for
//! whatever starts replicas or shows what they are.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::error::Error;
use crate::store::environments::PlainRow;
use crate::{Deployments, store};

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
    /// Whether there are no variables; those that are sealed are some.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(variables) if variables.is_empty())
    }
}

/// A deployment whose variables are known: only [`Deployments::opened`] makes one.
#[derive(Clone)]
pub(crate) struct Opened {
    deployment: Deployment,
    variables: BTreeMap<String, String>,
}

impl Opened {
    /// The variables of its model's code.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }
}

impl Deref for Opened {
    type Target = Deployment;

    fn deref(&self) -> &Deployment {
        &self.deployment
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut Deployment {
        &mut self.deployment
    }
}

#[cfg(test)]
impl From<Deployment> for Opened {
    /// Of one whose variables are stored as they are.
    fn from(deployment: Deployment) -> Self {
        let Environment::Plain(variables) = deployment.order.environment.clone() else {
            panic!("sealed");
        };
        Self {
            deployment,
            variables,
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
        let Environment::Plain(variables) = &environment else {
            return Ok(environment);
        };
        let sealed = self.inner.parts.seal.seal_variables(&owner(id), variables);
        let sealed = sealed.map_err(|source| of_seal(id, source))?;
        Ok(sealed.map_or(environment, Environment::Sealed))
    }

    /// A deployment with its variables.
    ///
    /// # Errors
    /// [`Error::Sealed`] when they were sealed with another key.
    pub(crate) fn opened(&self, deployment: Deployment) -> Result<Opened, Error> {
        let id = &deployment.id;
        let variables = match &deployment.order.environment {
            Environment::Plain(variables) => variables.clone(),
            Environment::Sealed(sealed) => {
                let opened = self.inner.parts.seal.open_variables(&owner(id), sealed);
                opened.map_err(|source| of_seal(id, source))?
            }
        };
        Ok(Opened {
            deployment,
            variables,
        })
    }

    /// Seals the variables that an earlier version left as they were.
    ///
    /// # Errors
    /// When the database fails; what was sealed before stays so.
    pub async fn seal_plain_environments(&self) -> Result<(), Error> {
        let list = store::environments::list_plain;
        let seal = async |conn: &mut db::Conn, row: PlainRow| self.seal_row(conn, row).await;
        let count = db::seal_plain(self.db(), list, |row| &row.id, seal).await?;
        if count > 0 {
            tracing::info!(count, "the variables of deployments were sealed");
        }
        Ok(())
    }

    /// Seals the variables of a row, unless this version cannot read it: it is left to the one that can.
    async fn seal_row(&self, conn: &mut db::Conn, row: PlainRow) -> Result<bool, Error> {
        let Some(mut order) = row.order else {
            return Ok(false);
        };
        order.environment = self.seal_environment(&row.id, order.environment)?;
        store::environments::set_order(conn, &row.id, &order).await?;
        Ok(matches!(order.environment, Environment::Sealed(_)))
    }
}

fn of_seal(id: &str, source: db::SealError) -> Error {
    Error::Sealed {
        id: id.to_owned(),
        source,
    }
}
