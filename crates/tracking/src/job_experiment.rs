//! Which experiments a job may change: their tags and their scorers are of whoever works in them.

use std::pin::Pin;
use std::sync::Arc;

use crate::error::Error;
use crate::{Kind, Tracking};

/// Finds the experiment, by its name, that the upload of a job named, by the job's id.
pub type JobExperiments = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<String>, db::Error>> + Send>>
        + Send
        + Sync,
>;

impl Tracking {
    /// Refuses a job that changes an experiment of others. Its own are the one that its upload
    /// named, what it made itself, and what another job made whose upload named the same
    /// experiment: another run of the same script.
    ///
    /// # Errors
    /// [`Error::NotOwned`], [`Error::ExperimentNotFound`].
    pub(crate) async fn check_own_experiment(
        &self,
        experiment_id: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        let Some(job_id) = job_id else {
            return Ok(());
        };
        let experiment = self.get_experiment(experiment_id).await?;
        let maker = match &self.external {
            Some(external) => {
                let stamp = external.stamp_of(Kind::Experiment, experiment_id).await?;
                stamp.map(|stamp| stamp.job_id)
            }
            None => experiment.job_id,
        };
        if maker.as_deref() == Some(job_id) {
            return Ok(());
        }
        let refused = || Error::NotOwned {
            what: format!("experiment {experiment_id}"),
            job_id: job_id.to_owned(),
        };
        let named = self
            .experiment_named_by(job_id)
            .await?
            .ok_or_else(refused)?;
        if named == experiment.name {
            return Ok(());
        }
        let maker = maker.ok_or_else(refused)?;
        match self.experiment_named_by(&maker).await? {
            Some(others) if others == named => Ok(()),
            _ => Err(refused()),
        }
    }

    async fn experiment_named_by(&self, job_id: &str) -> Result<Option<String>, Error> {
        match &self.job_experiments {
            Some(find) => Ok(find(job_id.to_owned()).await?),
            None => Ok(None),
        }
    }
}
