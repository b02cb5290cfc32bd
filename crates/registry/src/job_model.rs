//! Which models a job may add versions to: those that its own script makes.

use std::pin::Pin;
use std::sync::Arc;

use crate::Registry;
use crate::error::Error;
use crate::store::models;

/// Finds the registered model that the upload of a job named, by the job's id.
pub type JobModels = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<String>, db::Error>> + Send>>
        + Send
        + Sync,
>;

impl Registry {
    /// Refuses a job that adds a version to a model of others. Its own are the model that its
    /// upload named, what it made itself, and what another job made whose upload named the same
    /// model: another run of the same script.
    ///
    /// # Errors
    /// [`Error::NotOwnModel`], [`Error::ModelNotFound`].
    pub(crate) async fn check_may_add_version(
        &self,
        job_id: &str,
        name: &str,
    ) -> Result<(), Error> {
        let maker = {
            let mut conn = self.db.acquire().await?;
            let model = models::find(&mut conn, name).await?;
            model
                .ok_or_else(|| Error::ModelNotFound(name.to_owned()))?
                .job_id
        };
        if maker.as_deref() == Some(job_id) {
            return Ok(());
        }
        let refused = || Error::NotOwnModel {
            name: name.to_owned(),
            job_id: job_id.to_owned(),
        };
        let uploaded = self.model_of_upload(job_id).await?.ok_or_else(refused)?;
        if uploaded == name {
            return Ok(());
        }
        match maker {
            Some(maker) if self.model_of_upload(&maker).await? == Some(uploaded) => Ok(()),
            _ => Err(refused()),
        }
    }

    async fn model_of_upload(&self, job_id: &str) -> Result<Option<String>, Error> {
        match &self.job_models {
            Some(find) => Ok(find(job_id.to_owned()).await?),
            None => Ok(None),
        }
    }
}
