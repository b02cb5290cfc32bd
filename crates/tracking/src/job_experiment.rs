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

/// Whether a thing of this name is a job's own: what it made itself, what its upload named, and what
/// another job made (the `maker`) whose upload named the same: another run of the same script.
/// `named_by` finds what the upload of a job named.
///
/// # Errors
/// What `named_by` fails with.
pub async fn is_own<F, E>(
    job_id: &str,
    name: &str,
    maker: Option<String>,
    named_by: impl Fn(String) -> F,
) -> Result<bool, E>
where
    F: Future<Output = Result<Option<String>, E>>,
{
    if maker.as_deref() == Some(job_id) {
        return Ok(true);
    }
    let Some(named) = named_by(job_id.to_owned()).await? else {
        return Ok(false);
    };
    if named == name {
        return Ok(true);
    }
    match maker {
        Some(maker) => Ok(named_by(maker).await?.is_some_and(|others| others == named)),
        None => Ok(false),
    }
}

impl Tracking {
    /// Refuses a job that changes an experiment of others: one that [is not its own](is_own).
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
        let named_by = |job_id| self.experiment_named_by(job_id);
        match is_own(job_id, &experiment.name, maker, named_by).await? {
            true => Ok(()),
            false => Err(Error::NotOwned {
                what: format!("experiment {experiment_id}"),
                job_id: job_id.to_owned(),
            }),
        }
    }

    async fn experiment_named_by(&self, job_id: String) -> Result<Option<String>, Error> {
        match &self.job_experiments {
            Some(find) => Ok(find(job_id).await?),
            None => Ok(None),
        }
    }
}
