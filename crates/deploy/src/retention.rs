//! Removed deployments that are old enough to be forgotten.

use web::Timestamp;

use crate::error::Error;
use crate::{Deployments, store};

const DAY_MS: i64 = 24 * 3600 * 1000;

impl Deployments {
    /// Forgets the deployments that were removed more than `deploy.keep_removed_days` ago, with
    /// their logs, and tells how many. What may still have objects in a cluster stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_removed(&self) -> Result<u64, Error> {
        let days = self.inner.config.keep_removed_days;
        if days == 0 {
            return Ok(0);
        }
        let before = Timestamp::now().0 - i64::from(days) * DAY_MS;
        let mut tx = self.db().begin().await?;
        let count = store::deployments::delete_removed(&mut tx, before).await?;
        tx.commit().await?;
        Ok(count)
    }
}
