//! Telling which versions are complete: their files are stored, and so is what their job says of
//! them. Who listens may get ready for them before anybody asks.

use tokio::sync::broadcast;

use crate::error::Error;
use crate::store::versions;
use crate::{Registry, external};

/// So many may wait for one who listens; beyond them, the oldest are not told.
const MOST_WAITING: usize = 64;

/// A version that was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    pub name: String,
    pub version: i64,
}

pub(crate) fn channel() -> broadcast::Sender<Announced> {
    broadcast::Sender::new(MOST_WAITING)
}

impl Registry {
    /// Says that a version is complete. A version of a job is so when its job has ended; all others
    /// are when they are registered, and are told of by the registry itself.
    pub fn announce(&self, name: &str, version: i64) {
        let announced = Announced {
            name: name.to_owned(),
            version,
        };
        // Nobody need listen.
        let _ = self.announcements.send(announced);
    }

    /// Says that the versions that a job registered are complete, `own` before those of other models.
    /// An external MLflow server that has them is not asked: the end of a job does not wait for it.
    ///
    /// # Errors
    /// When the others cannot be found; `own` is told of all the same.
    pub async fn announce_of_job(
        &self,
        job_id: &str,
        own: Option<(String, i64)>,
    ) -> Result<(), Error> {
        if let Some((name, version)) = &own {
            self.announce(name, *version);
        }
        let made = match self.tracking.external() {
            Some(external) => external::version_names_of_job(external, job_id).await?,
            None => {
                let mut conn = self.db.acquire().await?;
                let made = versions::list_of_job(&mut conn, job_id).await?;
                made.into_iter()
                    .map(|made| (made.name, made.version))
                    .collect()
            }
        };
        for (name, version) in made.iter().filter(|made| Some(*made) != own.as_ref()) {
            self.announce(name, *version);
        }
        Ok(())
    }

    /// Hears of the versions that are completed from now on through this handle and its clones.
    pub fn announced(&self) -> broadcast::Receiver<Announced> {
        self.announcements.subscribe()
    }
}
