//! Removing for good what was deleted: first the rows, which frees names and ids, then the files.
//!
//! The rows go in one transaction that looks again whether the thing is still deleted, so a
//! restore comes before it or finds nothing. The same transaction notes the folder; whoever is
//! killed before the files are gone leaves that note for the next removal.

use web::Timestamp;

use crate::Tracking;
use crate::artifact::ArtifactEntry;
use crate::error::Error;
use crate::experiment;
use crate::location::Location;
use crate::store::removals;

/// What can be removed, in the order in which it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Run,
    LoggedModel,
    Experiment,
}

impl Kind {
    /// All kinds: what is in an experiment goes before it.
    pub const ALL: [Self; 3] = [Self::Run, Self::LoggedModel, Self::Experiment];

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::LoggedModel => "logged_model",
            Self::Experiment => "experiment",
        }
    }
}

/// A run, logged model or experiment that is in the bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub kind: Kind,
    pub id: String,
    pub name: String,
    /// When it was deleted, in epoch milliseconds.
    pub deleted_at: i64,
    /// Where its files are.
    pub artifact_uri: String,
}

/// What became of an attempt to remove something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Its rows are gone, and its files are noted for removal.
    Removed,
    /// It is not in the bin any more, or has been removed by somebody else.
    NotDeleted,
    /// The experiment holds runs or logged models that are kept.
    NotEmpty,
}

/// How many files there are, and how large they are together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    pub files: u64,
    pub size_bytes: u64,
}

impl Deleted {
    /// The folder that holds nothing else; none when the files are in another store.
    pub fn folder(&self) -> Option<Location> {
        let place = Location::parse_uri(&self.artifact_uri).ok()?;
        match self.kind {
            Kind::Experiment => Some(place).filter(|place| !place.key().is_empty()),
            Kind::Run | Kind::LoggedModel => {
                let key = place.key().strip_suffix("/artifacts")?;
                let own = key.rsplit('/').next() == Some(self.id.as_str());
                own.then(|| Location::root().join(key).ok()).flatten()
            }
        }
    }
}

impl Tracking {
    /// One page of what was deleted before a moment, in the order of ids.
    pub async fn list_deleted(
        &self,
        kind: Kind,
        before: i64,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Deleted>, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(removals::list(&mut conn, kind, before, after, limit).await?)
    }

    /// Removes the rows of something that is in the bin since before that moment, and notes its
    /// folder for [`Self::remove_files`].
    pub async fn remove_deleted(&self, deleted: &Deleted, before: i64) -> Result<Removal, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        let found = removals::find(&mut tx, deleted.kind, before, &deleted.id).await?;
        let Some(found) = found else {
            return Ok(Removal::NotDeleted);
        };
        let folders = match found.kind {
            Kind::Run => {
                removals::delete_run(&mut tx, &found.id).await?;
                found.folder().into_iter().collect()
            }
            Kind::LoggedModel => {
                removals::delete_model(&mut tx, &found.id).await?;
                found.folder().into_iter().collect()
            }
            Kind::Experiment => match remove_experiment(&mut tx, &found).await? {
                Some(folders) => folders,
                None => return Ok(Removal::NotEmpty),
            },
        };
        for folder in folders {
            removals::insert_folder(&mut tx, folder.key(), now).await?;
        }
        tx.commit().await?;
        Ok(Removal::Removed)
    }

    /// Folders whose files are still to be removed.
    pub async fn list_removed_folders(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<Location>, Error> {
        let mut conn = self.db.acquire().await?;
        let keys = removals::list_folders(&mut conn, after, limit).await?;
        keys.iter().map(|key| Location::root().join(key)).collect()
    }

    /// Removes the files of a noted folder, and then the note.
    pub async fn remove_files(&self, folder: &Location) -> Result<(), Error> {
        self.artifacts.remove_folder(folder).await?;
        let mut tx = self.db.begin().await?;
        removals::delete_folder(&mut tx, folder.key()).await?;
        Ok(tx.commit().await?)
    }

    /// How much is in a folder.
    pub async fn extent(&self, folder: &Location) -> Result<Extent, Error> {
        let files = self.artifacts.list_all(folder).await?;
        let size = |file: &ArtifactEntry| file.size_bytes.unwrap_or_default();
        Ok(Extent {
            files: files.len() as u64,
            size_bytes: files.iter().map(size).sum(),
        })
    }
}

/// Removes an experiment's rows and tells which folders are then nobody's; none when it still
/// holds runs or models.
async fn remove_experiment(
    tx: &mut db::Tx,
    found: &Deleted,
) -> Result<Option<Vec<Location>>, Error> {
    let id = experiment::parse_id(&found.id)?;
    if removals::holds_any(tx, id).await? {
        return Ok(None);
    }
    let own = found.artifact_uri == experiment::default_location(id)
        && !removals::is_shared(tx, id, &found.artifact_uri).await?;
    let traces = removals::delete_experiment(tx, id).await?;
    let Some(folder) = found.folder() else {
        return Ok(Some(Vec::new()));
    };
    if own {
        return Ok(Some(vec![folder]));
    }
    // Others keep files there too.
    let of_trace = |trace: &String| folder.join(&format!("traces/{trace}")).ok();
    Ok(Some(traces.iter().filter_map(of_trace).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(kind: Kind, id: &str, artifact_uri: &str) -> Option<String> {
        let deleted = Deleted {
            kind,
            id: id.to_owned(),
            name: String::new(),
            deleted_at: 0,
            artifact_uri: artifact_uri.to_owned(),
        };
        Some(deleted.folder()?.key().to_owned())
    }

    #[test]
    fn only_a_folder_of_its_own_is_removed() {
        let run = |uri| deleted(Kind::Run, "abc", uri);
        assert_eq!(
            run("mlflow-artifacts:/7/abc/artifacts").as_deref(),
            Some("7/abc")
        );
        // Any other shape could hold what belongs to others.
        for other in [
            "mlflow-artifacts:/7/abc",
            "mlflow-artifacts:/7/other/artifacts",
            "mlflow-artifacts:/",
            "s3://b/7/abc/artifacts",
            "/tmp/7/abc/artifacts",
        ] {
            assert_eq!(run(other), None, "{other}");
        }
        let model = deleted(
            Kind::LoggedModel,
            "m-1",
            "mlflow-artifacts:/7/models/m-1/artifacts",
        );
        assert_eq!(model.as_deref(), Some("7/models/m-1"));
        assert_eq!(deleted(Kind::Experiment, "7", "mlflow-artifacts:/"), None);
    }
}
