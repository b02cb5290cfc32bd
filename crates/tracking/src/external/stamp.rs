//! What a job made on the external server.

use web::{Identity, Timestamp};

use super::External;
use crate::error::Error;
use crate::owner::check_owner;
use crate::store::stamps;

/// What can be stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Experiment,
    Run,
    LoggedModel,
    Trace,
    RegisteredModel,
    /// Its id is `NAME/VERSION`.
    ModelVersion,
    EvaluationDataset,
    /// Its id is `EXPERIMENT_ID/NAME/VERSION`.
    Scorer,
}

/// Which job made something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub id: String,
    pub job_id: String,
    /// Where its artifacts are, when it has any.
    pub artifact_uri: Option<String>,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Run => "run",
            Self::LoggedModel => "logged_model",
            Self::Trace => "trace",
            Self::RegisteredModel => "registered_model",
            Self::ModelVersion => "model_version",
            Self::EvaluationDataset => "evaluation_dataset",
            Self::Scorer => "scorer",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::LoggedModel => "logged model",
            Self::RegisteredModel => "registered model",
            Self::ModelVersion => "model version",
            Self::EvaluationDataset => "evaluation dataset",
            other => other.as_str(),
        }
    }
}

impl External {
    /// Notes that a job made something.
    pub async fn stamp(&self, kind: Kind, stamp: &Stamp) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        stamps::put(&mut tx, kind, stamp, Timestamp::now().0).await?;
        Ok(tx.commit().await?)
    }

    /// Who made something; `None` when no job of this server did.
    pub async fn stamp_of(&self, kind: Kind, id: &str) -> Result<Option<Stamp>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(stamps::find(&mut conn, kind, id).await?)
    }

    /// Who made those of `ids` that jobs made.
    pub async fn stamps_of(&self, kind: Kind, ids: &[String]) -> Result<Vec<Stamp>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(stamps::list(&mut conn, kind, ids).await?)
    }

    /// What a job made, oldest first.
    pub async fn stamps_of_job(&self, kind: Kind, job_id: &str) -> Result<Vec<Stamp>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(stamps::list_of_job(&mut conn, kind, job_id).await?)
    }

    /// Refuses a caller that is a job and did not make this.
    ///
    /// # Errors
    /// [`Error::NotOwned`].
    pub async fn check_made(&self, caller: &Identity, kind: Kind, id: &str) -> Result<(), Error> {
        if caller.job_id().is_none() {
            return Ok(());
        }
        let stamp = self.stamp_of(kind, id).await?;
        let maker = stamp.as_ref().map(|stamp| stamp.job_id.as_str());
        check_owner(caller, maker, kind.words(), id)
    }
}
