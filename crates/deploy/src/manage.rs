//! Changing what is deployed: replicas, shares of the requests, going back, removing.

use std::collections::HashMap;

use web::Timestamp;

use crate::create::Caller;
use crate::deployment::{Deployment, Order};
use crate::environment::Environment;
use crate::error::Error;
use crate::store::deployments::Filter;
use crate::store::endpoints::Address;
use crate::{Deployments, store};

impl Deployments {
    /// A page of deployments, newest first, and whether more follow.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        limit: usize,
    ) -> Result<(Vec<Deployment>, bool), Error> {
        let mut conn = self.db().acquire().await?;
        let most = i64::try_from(limit).unwrap_or(i64::MAX - 1);
        let mut found = store::deployments::list(&mut conn, filter, most).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// The URLs of the endpoints of deployments, of those that have one.
    pub(crate) async fn urls(
        &self,
        deployments: &[Deployment],
    ) -> Result<HashMap<(String, String), String>, Error> {
        let endpoints = deployments.iter().map(Deployment::endpoint).collect();
        let mut conn = self.db().acquire().await?;
        let addresses = store::endpoints::list_addresses(&mut conn, &endpoints).await?;
        let url = |Address { port, url }| url.or(port.map(|port| self.inner.config.url(port)));
        let urls = addresses.into_iter();
        let urls = urls.filter_map(|(endpoint, address)| Some((endpoint, url(address)?)));
        Ok(urls.collect())
    }

    /// Changes the number of replicas.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotLive`], [`Error::Autoscaled`], [`Error::Sealed`].
    pub(crate) async fn scale(&self, id: &str, replicas: u32) -> Result<Deployment, Error> {
        let mut tx = self.db().begin().await?;
        let deployment = live(&mut tx, id).await?;
        if deployment.order.autoscale.is_some() {
            return Err(Error::Autoscaled(id.to_owned()));
        }
        let others = others(&mut tx, &deployment).await?;
        self.check_opened(id, others.iter().chain([&deployment]))?;
        store::changes::set_replicas(&mut tx, id, replicas).await?;
        let deployment = live(&mut tx, id).await?;
        tx.commit().await?;
        self.rouse();
        Ok(deployment)
    }

    /// Gives a deployment a share of its endpoint's requests; the others keep the rest in their
    /// proportion. All of them retires the others, none of them retires it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotLive`], [`Error::OnlyOne`] when nobody could have the rest,
    /// [`Error::Sealed`].
    pub(crate) async fn set_traffic(&self, id: &str, percent: u32) -> Result<Deployment, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db().begin().await?;
        let deployment = live(&mut tx, id).await?;
        let others = others(&mut tx, &deployment).await?;
        if percent < 100 && others.is_empty() {
            return Err(Error::OnlyOne(id.to_owned()));
        }
        if percent > 0 {
            self.check_opened(id, [&deployment])?;
        }
        if percent < 100 {
            self.check_opened(id, &others)?;
        }
        match percent {
            0 => {
                store::changes::retire(&mut tx, id, now).await?;
            }
            percent => {
                store::changes::set_traffic(&mut tx, id, percent).await?;
            }
        }
        give_rest(&mut tx, &others, 100 - percent, now).await?;
        let deployment = store::deployments::find(&mut tx, id)
            .await?
            .ok_or_else(|| Error::NotFound(id.to_owned()))?;
        tx.commit().await?;
        self.rouse();
        Ok(deployment)
    }

    /// Deploys again what an endpoint had before: the deployment `to`, else the one before `id`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NothingBefore`].
    pub(crate) async fn roll_back(
        &self,
        id: &str,
        to: Option<&str>,
        caller: &Caller<'_>,
    ) -> Result<Deployment, Error> {
        let mut conn = self.db().acquire().await?;
        let deployment = find(&mut conn, id).await?;
        let before = match to {
            Some(to) => Some(find(&mut conn, to).await?),
            None => store::deployments::find_before(&mut conn, &deployment).await?,
        };
        drop(conn);
        let same_endpoint = |other: &Deployment| {
            other.order.namespace == deployment.order.namespace
                && other.order.model_name == deployment.order.model_name
        };
        let before = before
            .filter(same_endpoint)
            .filter(|before| before.model_version.is_some())
            .ok_or_else(|| Error::NothingBefore(id.to_owned()))?;
        // They are sealed for that deployment alone.
        let before = self.opened(before)?;
        let order = Order {
            environment: Environment::Plain(before.variables().clone()),
            trains: false,
            model_version: before.model_version,
            replicas: before.replicas,
            canary_percent: None,
            rollback_to: Some(before.id.clone()),
            // The same image, though one made anew might differ.
            image: before.image.clone(),
            ..before.order.clone()
        };
        let hash = format!("rollback of {id} to {}", before.id);
        self.insert(order, None, &hash, caller).await
    }

    /// Stops and removes a deployment in whatever state it is. What it leaves of the endpoint's
    /// requests goes to the others.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) async fn remove(&self, id: &str) -> Result<Deployment, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db().begin().await?;
        let deployment = find(&mut tx, id).await?;
        if !store::changes::remove(&mut tx, id, now).await? {
            return Err(Error::NotFound(id.to_owned()));
        }
        if deployment.is_live() {
            let others = others(&mut tx, &deployment).await?;
            give_rest(&mut tx, &others, 100, now).await?;
        }
        let (namespace, name) = (&deployment.order.namespace, &deployment.order.model_name);
        store::endpoints::delete_unused(&mut tx, namespace, name).await?;
        tx.commit().await?;
        tracing::info!(deployment_id = id, "a deployment is removed");
        if let Some(stop) = self.running().get(id) {
            stop.cancel();
        }
        self.stop_training(id).await?;
        self.rouse();
        Ok(deployment)
    }

    /// Has the loop look at what changed.
    pub(crate) fn rouse(&self) {
        self.inner.arrived.notify_one();
        self.changed();
    }
}

async fn find(conn: &mut db::Conn, id: &str) -> Result<Deployment, Error> {
    store::deployments::find(conn, id)
        .await?
        .ok_or_else(|| Error::NotFound(id.to_owned()))
}

pub(crate) async fn live(conn: &mut db::Conn, id: &str) -> Result<Deployment, Error> {
    let deployment = find(conn, id).await?;
    if deployment.is_live() {
        return Ok(deployment);
    }
    let state = if deployment.retired_at.is_some() {
        "replaced by another"
    } else {
        deployment.state.as_str()
    };
    Err(Error::NotLive {
        id: id.to_owned(),
        state,
    })
}

/// The other live deployments of an endpoint.
pub(crate) async fn others(
    conn: &mut db::Conn,
    deployment: &Deployment,
) -> Result<Vec<Deployment>, Error> {
    let order = &deployment.order;
    let mut found =
        store::deployments::list_live_of(conn, &order.namespace, &order.model_name).await?;
    found.retain(|other| other.id != deployment.id);
    Ok(found)
}

/// Shares `rest` percent among deployments, and tells what each has; without a rest they retire.
pub(crate) async fn give_rest(
    conn: &mut db::Conn,
    others: &[Deployment],
    rest: u32,
    now: i64,
) -> Result<Vec<(String, u32)>, Error> {
    if rest == 0 {
        for other in others {
            store::changes::retire(conn, &other.id, now).await?;
        }
        return Ok(Vec::new());
    }
    let shares = rest_shared(others, rest);
    for (id, share) in &shares {
        store::changes::set_traffic(conn, id, *share).await?;
    }
    Ok(shares)
}

/// What each of some deployments has when they share `rest` percent.
pub(crate) fn rest_shared(others: &[Deployment], rest: u32) -> Vec<(String, u32)> {
    let had: Vec<u32> = others.iter().map(|other| other.traffic).collect();
    let ids = others.iter().map(|other| other.id.clone());
    ids.zip(shared(&had, rest)).collect()
}

/// `rest` divided in the proportion of `shares`, without a remainder; the last takes what
/// rounding leaves.
fn shared(shares: &[u32], rest: u32) -> Vec<u32> {
    let total: u32 = shares.iter().sum();
    let count = u32::try_from(shares.len()).unwrap_or(u32::MAX).max(1);
    let mut left = rest;
    let mut given: Vec<u32> = shares
        .iter()
        .map(|share| {
            let part = match total {
                0 => rest / count,
                total => rest * share / total,
            };
            left -= part;
            part
        })
        .collect();
    if let Some(last) = given.last_mut() {
        *last += left;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn a_rest_is_given_away_whole() {
        assert_eq!(shared(&[100], 90), [90]);
        assert_eq!(shared(&[70, 30], 50), [35, 15]);
        assert_eq!(shared(&[33, 33, 34], 10), [3, 3, 4]);
        assert_eq!(shared(&[0, 0], 100), [50, 50]);
        assert_eq!(shared(&[], 100), [0; 0]);
    }
}
