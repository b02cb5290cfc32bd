//! Who may write which artifacts: a job what it made itself, and nobody without a higher role the
//! files of a registered version.

use std::pin::Pin;
use std::sync::Arc;

use web::{Identity, Permission};

use crate::Tracking;
use crate::error::Error;
use crate::location::Location;

/// The run or logged model that a place in the artifact store belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The run with this id.
    Run(String),
    /// The logged model with this id.
    LoggedModel(String),
    /// The trace with this id.
    Trace(String),
}

impl Owner {
    /// Reads the owner from the names of a place: `.../RUN_ID/artifacts/...` or
    /// `.../m-HEX/artifacts/...` or `.../traces/ID/artifacts/...`. Whether it exists is not known yet.
    pub fn of(place: &Location) -> Option<Self> {
        let names: Vec<&str> = place.key().split('/').collect();
        if let Some(trace) = names.windows(3).find_map(|names| match names {
            ["traces", id, "artifacts"] => Some(Self::Trace((*id).to_owned())),
            _ => None,
        }) {
            return Some(trace);
        }
        names.windows(2).find_map(|pair| match pair {
            [id, "artifacts"] if is_hex_id(id) => Some(Self::Run((*id).to_owned())),
            [id, "artifacts"] if id.strip_prefix("m-").is_some_and(is_hex_id) => {
                Some(Self::LoggedModel((*id).to_owned()))
            }
            _ => None,
        })
    }
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Refuses a job that writes what another caller made. `owner` is the job that made it.
///
/// # Errors
/// [`Error::NotOwned`].
pub fn check_owner(
    caller: &Identity,
    owner: Option<&str>,
    what: &str,
    id: &str,
) -> Result<(), Error> {
    match caller.job_id() {
        Some(job_id) if owner != Some(job_id) => Err(Error::NotOwned {
            what: format!("{what} {id}"),
            job_id: job_id.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Finds the registered version, in words, that a place belongs to.
pub type RegisteredAt = Arc<
    dyn Fn(Question) -> Pin<Box<dyn Future<Output = Result<Option<String>, Error>> + Send>>
        + Send
        + Sync,
>;

/// What is asked of [`RegisteredAt`].
#[derive(Debug, Clone)]
pub struct Question {
    /// The place; a version whose folder it is, or is in, is found.
    pub place: Location,
    /// Whether versions whose folders are below the place are found too.
    pub with_all_below: bool,
    /// Versions that this job made are passed over.
    pub not_by_job: Option<String>,
}

/// What is done to an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Write,
    Delete,
}

impl Tracking {
    /// Checks that a caller may change what is at a place. Who may manage models may; else files
    /// are only removed by the job that made them, and a registered version keeps its files, but
    /// for the job that made it. Any caller may add to a run, also to one that has ended.
    pub(crate) async fn check_may_change_artifact(
        &self,
        caller: &Identity,
        place: &Location,
        change: Change,
    ) -> Result<(), Error> {
        if caller.may(Permission::ManageModels) {
            return Ok(());
        }
        match caller.job_id() {
            Some(job_id) => self.check_made_by(job_id, place).await?,
            // As MLflow has it: deleting artifacts takes more than writing them.
            None if change == Change::Delete => return Err(Error::DeletingArtifacts),
            None => {}
        }
        let Some(registered_at) = &self.registered_at else {
            return Ok(());
        };
        let question = Question {
            place: place.clone(),
            with_all_below: change == Change::Delete,
            not_by_job: caller.job_id().map(str::to_owned),
        };
        match registered_at(question).await? {
            None => Ok(()),
            Some(version) => Err(Error::Registered {
                path: place.key().to_owned(),
                version,
            }),
        }
    }

    /// Refuses a place outside of what a job made itself.
    async fn check_made_by(&self, job_id: &str, place: &Location) -> Result<(), Error> {
        if let Some(external) = &self.external {
            return external.check_made_file(job_id, place).await;
        }
        let (root, owner) = match Owner::of(place) {
            Some(Owner::Run(run_id)) => {
                let run = self.get_run(&run_id).await?;
                (run.artifact_uri, run.job_id)
            }
            Some(Owner::LoggedModel(model_id)) => {
                let model = self.get_logged_model(&model_id).await?;
                (model.artifact_uri, model.job_id)
            }
            Some(Owner::Trace(trace_id)) => {
                let trace = self.get_trace(&trace_id).await?;
                (trace.place().unwrap_or_default().to_owned(), trace.job_id)
            }
            None => (String::new(), None),
        };
        let inside = Location::parse_uri(&root).is_ok_and(|root| place.is_within(&root));
        if inside && owner.as_deref() == Some(job_id) {
            return Ok(());
        }
        Err(Error::NotOwned {
            what: format!("the artifact {:?}", place.key()),
            job_id: job_id.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_belongs_to_the_run_or_model_in_its_path() {
        let hex = "0123456789abcdef0123456789abcdef";
        let owner = |path: &str| Owner::of(&Location::root().join(path).unwrap());
        assert_eq!(
            owner(&format!("1/{hex}/artifacts/model/MLmodel")),
            Some(Owner::Run(hex.to_owned()))
        );
        assert_eq!(
            owner(&format!("team/x/models/m-{hex}/artifacts")),
            Some(Owner::LoggedModel(format!("m-{hex}")))
        );
        assert_eq!(
            owner("1/traces/tr-1/artifacts/traces.json"),
            Some(Owner::Trace("tr-1".to_owned()))
        );
        assert_eq!(owner(&format!("1/{hex}")), None);
        assert_eq!(owner("1/run/artifacts/x"), None);
    }
}
