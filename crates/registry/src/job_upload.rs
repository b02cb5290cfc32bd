//! What a job may do in the registry: add versions to the models that its own script makes, and
//! promote these versions.

use std::pin::Pin;
use std::sync::Arc;

use web::Identity;

use crate::Registry;
use crate::error::Error;
use crate::store::models;

/// What the registry must know of the upload that made a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUpload {
    /// The registered model that it named.
    pub model_name: String,
    /// Whether who uploaded the script may manage models: then the script may take aliases and
    /// stages from versions of others.
    pub may_promote: bool,
}

/// Finds the upload of a job by the job's id.
pub type JobUploads = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<JobUpload>, db::Error>> + Send>>
        + Send
        + Sync,
>;

impl Registry {
    /// Refuses a job that adds a version to a model of others: one that [is not its
    /// own](tracking::is_own).
    ///
    /// # Errors
    /// [`Error::NotOwnModel`], [`Error::ModelNotFound`].
    pub(crate) async fn check_may_add_version(
        &self,
        job_id: &str,
        name: &str,
    ) -> Result<(), Error> {
        let maker = if let Some(external) = self.tracking.external() {
            let stamp = external.stamp_of(tracking::Kind::RegisteredModel, name);
            stamp.await?.map(|stamp| stamp.job_id)
        } else {
            let mut conn = self.db.acquire().await?;
            let model = models::find(&mut conn, name).await?;
            model
                .ok_or_else(|| Error::ModelNotFound(name.to_owned()))?
                .job_id
        };
        match tracking::is_own(job_id, name, maker, |job_id| self.model_named_by(job_id)).await? {
            true => Ok(()),
            false => Err(Error::NotOwnModel {
                name: name.to_owned(),
                job_id: job_id.to_owned(),
            }),
        }
    }

    async fn model_named_by(&self, job_id: String) -> Result<Option<String>, Error> {
        let upload = self.upload_of(&job_id).await?;
        Ok(upload.map(|upload| upload.model_name))
    }

    /// Whether `caller` may take an alias or a stage from a version that it did not make.
    pub(crate) async fn may_promote(&self, caller: &Identity) -> Result<bool, Error> {
        match caller.job_id() {
            None => Ok(true),
            Some(job_id) => {
                let upload = self.upload_of(job_id).await?;
                Ok(upload.is_some_and(|upload| upload.may_promote))
            }
        }
    }

    async fn upload_of(&self, job_id: &str) -> Result<Option<JobUpload>, Error> {
        match &self.job_uploads {
            Some(find) => Ok(find(job_id.to_owned()).await?),
            None => Ok(None),
        }
    }
}
