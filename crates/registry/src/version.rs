//! Versions of a registered model.

use std::collections::BTreeMap;

use tracking::{Location, check_owner};
use web::{Identity, Timestamp};

use crate::Registry;
use crate::error::Error;
use crate::external;
use crate::name;
use crate::selector::Selector;
use crate::source;
use crate::stage::Stage;
use crate::store::{models, versions};

/// The tag of a version that names the environment that its job trained in.
pub const ENVIRONMENT_TAG: &str = "asgard.environment";

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVersion {
    pub name: String,
    /// 1, 2, 3, ...
    pub version: i64,
    /// What the caller said where its files are.
    pub source: String,
    /// Where that is: an `mlflow-artifacts:/` URI when it is in this server's store.
    pub location: String,
    pub run_id: Option<String>,
    pub run_link: Option<String>,
    /// The logged model that it is.
    pub model_id: Option<String>,
    /// The job that made it.
    pub job_id: Option<String>,
    pub stage: Stage,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// In alphabetical order.
    pub aliases: Vec<String>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
}

/// What a new version is made of.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    pub name: String,
    /// Where its files are.
    pub source: String,
    pub run_id: Option<String>,
    pub run_link: Option<String>,
    pub model_id: Option<String>,
    pub description: Option<String>,
    pub tags: Vec<(String, String)>,
    /// The job that makes it.
    pub job_id: Option<String>,
}

impl Registry {
    /// Adds a version to a model, with the next number.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::Source`] for a place that no version may have,
    /// [`Error::NotOwnModel`] for a job and a model of others.
    pub async fn create_version(&self, new: NewVersion) -> Result<ModelVersion, Error> {
        self.add_version(new, false).await
    }

    /// Adds a version; with `once`, answers with the one whose files are at the same place if
    /// there is one.
    pub(crate) async fn add_version(
        &self,
        new: NewVersion,
        once: bool,
    ) -> Result<ModelVersion, Error> {
        let added = self.insert_version(new, once).await?;
        if added.job_id.is_none() {
            self.announce(&added.name, added.version);
        }
        Ok(added)
    }

    async fn insert_version(&self, new: NewVersion, once: bool) -> Result<ModelVersion, Error> {
        name::check_tags(&new.tags)?;
        if let Some(job_id) = &new.job_id {
            self.check_may_add_version(job_id, &new.name).await?;
        }
        if let Some(external) = self.tracking.external() {
            let added = external::add_version(external, new, once).await;
            self.changed();
            return added;
        }
        let place = source::resolve(self, &new).await?;
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        // Nobody adds the same version meanwhile.
        models::lock(&mut tx, &new.name).await?;
        if once && let Some(known) = versions::find_at(&mut tx, &new.name, &place.location).await? {
            let known = find(&mut tx, &new.name, known).await?;
            // It may have been written in this very group of commits: it is there when they are.
            self.commit(tx).await?;
            return Ok(known);
        }
        let number = models::take_version(&mut tx, &new.name, now)
            .await?
            .ok_or_else(|| Error::ModelNotFound(new.name.clone()))?;
        let version = ModelVersion {
            name: new.name,
            version: number,
            source: new.source,
            location: place.location,
            run_id: place.run_id,
            run_link: new.run_link.filter(|link| !link.is_empty()),
            model_id: place.model_id,
            job_id: new.job_id,
            stage: Stage::None,
            description: new.description.unwrap_or_default(),
            tags: new.tags.into_iter().chain(place.tags).collect(),
            aliases: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        versions::insert(&mut tx, &version).await?;
        self.tell_version_created(&mut tx, &version).await?;
        self.commit(tx).await?;
        tracing::info!(
            model = version.name,
            version = number,
            "a model version was registered"
        );
        Ok(version)
    }

    /// The version that a selector means now: one indexed query.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::AliasNotFound`], or [`Error::VersionNotFound`], which
    /// names both.
    pub async fn resolve(&self, name: &str, which: &Selector) -> Result<ModelVersion, Error> {
        if let Some(external) = self.tracking.external() {
            return external::resolve(external, name, which).await;
        }
        let mut conn = self.db.acquire().await?;
        if let Some(version) = versions::select(&mut conn, name, which).await? {
            return Ok(version);
        }
        if models::find(&mut conn, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        Err(match which {
            Selector::Alias(alias) => Error::AliasNotFound {
                name: name.to_owned(),
                alias: alias.clone(),
            },
            which => version_not_found(name, which),
        })
    }

    /// A version by its number.
    ///
    /// # Errors
    /// [`Error::VersionNotFound`], also when there is no such model.
    pub async fn get_version(&self, name: &str, version: i64) -> Result<ModelVersion, Error> {
        let mut conn = self.db.acquire().await?;
        find(&mut conn, name, version).await
    }

    /// The versions that a job made, oldest first.
    pub async fn versions_of_job(&self, job_id: &str) -> Result<Vec<ModelVersion>, Error> {
        if let Some(external) = self.tracking.external() {
            return external::versions_of_job(external, job_id).await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(versions::list_of_job(&mut conn, job_id).await?)
    }

    /// The versions of a model, newest first, at most 1000.
    pub async fn versions_of_model(&self, name: &str) -> Result<Vec<ModelVersion>, Error> {
        if let Some(external) = self.tracking.external() {
            return external::versions_of_model(external, name, "1000").await;
        }
        let mut conn = self.db.acquire().await?;
        Ok(versions::list_of_model(&mut conn, name).await?)
    }

    /// The newest version of a model in each of these stages that has one.
    pub async fn latest_versions(
        &self,
        name: &str,
        stages: &[Stage],
    ) -> Result<Vec<ModelVersion>, Error> {
        let mut conn = self.db.acquire().await?;
        if models::find(&mut conn, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        let mut latest = versions::list_latest(&mut conn, &[name]).await?;
        latest.retain(|version| stages.contains(&version.stage));
        Ok(latest)
    }

    /// The place of a version's files in this server's artifact store.
    ///
    /// # Errors
    /// [`Error::Elsewhere`] when they are not in it.
    pub async fn location(&self, version: &ModelVersion) -> Result<Location, Error> {
        let location = match self.tracking.external() {
            Some(external) => &external::location(external, version).await?,
            None => &version.location,
        };
        Location::parse_uri(location).map_err(|_| Error::Elsewhere {
            name: version.name.clone(),
            version: version.version,
            location: location.clone(),
        })
    }

    /// Changes the description of a version.
    pub async fn update_version(
        &self,
        name: &str,
        version: i64,
        description: &str,
        caller: &Identity,
    ) -> Result<ModelVersion, Error> {
        let now = Timestamp::now().0;
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, name, version, caller).await?;
        versions::update_description(&mut tx, name, version, description, now).await?;
        let updated = find(&mut tx, name, version).await?;
        self.commit(tx).await?;
        Ok(updated)
    }

    /// Moves a version to a stage; with `archive_others`, moves those that were in it to
    /// Archived. A job moves versions that it made itself, and into a stage in which there is one of
    /// others only when its uploader might.
    pub(crate) async fn transition_version(
        &self,
        caller: &Identity,
        name: &str,
        version: i64,
        stage: Stage,
        archive_others: bool,
    ) -> Result<ModelVersion, Error> {
        if archive_others && !stage.is_active() {
            return Err(Error::Invalid(format!(
                "Model version transition cannot archive existing model versions because '{}' is \
                 not an Active stage. Valid stages are Staging, Production",
                stage.as_str()
            )));
        }
        let now = Timestamp::now().0;
        let may_promote = self.may_promote(caller).await?;
        let mut tx = self.db.begin().await?;
        // Locks the model: nobody moves another version into the stage meanwhile.
        models::touch(&mut tx, name, now).await?;
        find_owned(&mut tx, name, version, caller).await?;
        if stage.is_active() && !may_promote {
            check_free_stage(&mut tx, name, version, stage, caller).await?;
        }
        if archive_others {
            versions::archive_others(&mut tx, name, version, stage, now).await?;
        }
        versions::update_stage(&mut tx, name, version, stage, now).await?;
        let moved = find(&mut tx, name, version).await?;
        self.commit(tx).await?;
        Ok(moved)
    }

    /// Deletes a version with its tags and aliases. Its files stay; its number is not used again.
    pub async fn delete_version(&self, name: &str, version: i64) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if versions::delete(&mut tx, name, version).await? == 0 {
            return Err(version_not_found(name, version));
        }
        models::touch(&mut tx, name, Timestamp::now().0).await?;
        self.commit(tx).await
    }

    /// Sets a tag of a version.
    pub async fn set_version_tag(
        &self,
        name: &str,
        version: i64,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        self.set_version_tag_as(&Identity::Local, name, version, key, value)
            .await
    }

    /// Sets a tag of a version for a caller; a job changes only versions that it made.
    pub(crate) async fn set_version_tag_as(
        &self,
        caller: &Identity,
        name: &str,
        version: i64,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        name::check_tag(key, value)?;
        if let Some(external) = self.tracking.external() {
            let set = external::set_version_tag(external, name, version, key, value).await;
            self.changed();
            return set;
        }
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, name, version, caller).await?;
        versions::set_tag(&mut tx, name, version, key, value).await?;
        self.tell_version_tag(&mut tx, (name, version), key, Some(value))
            .await?;
        self.commit(tx).await
    }

    /// Removes a tag of a version; one that is not there is fine.
    pub async fn delete_version_tag(
        &self,
        name: &str,
        version: i64,
        key: &str,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        find(&mut tx, name, version).await?;
        versions::delete_tag(&mut tx, name, version, key).await?;
        self.tell_version_tag(&mut tx, (name, version), key, None)
            .await?;
        self.commit(tx).await
    }
}

pub(crate) fn version_not_found(name: &str, version: impl ToString) -> Error {
    Error::VersionNotFound {
        name: name.to_owned(),
        version: version.to_string(),
    }
}

/// Refuses a job that would take a stage from a version of others: who asks for a stage gets the
/// newest version in it.
async fn check_free_stage(
    conn: &mut db::Conn,
    name: &str,
    version: i64,
    stage: Stage,
    caller: &Identity,
) -> Result<(), Error> {
    let job_id = caller.job_id().unwrap_or_default();
    match versions::find_of_others_in_stage(conn, name, version, stage, job_id).await? {
        None => Ok(()),
        Some(holder) => Err(Error::NotPromoted {
            what: format!("the stage {}", stage.as_str()),
            name: name.to_owned(),
            version: holder,
            job_id: job_id.to_owned(),
        }),
    }
}

async fn find(conn: &mut db::Conn, name: &str, version: i64) -> Result<ModelVersion, Error> {
    versions::select(conn, name, &Selector::Number(version))
        .await?
        .ok_or_else(|| version_not_found(name, version))
}

/// Finds a version that the caller may change: a job only what it made.
pub(crate) async fn find_owned(
    conn: &mut db::Conn,
    name: &str,
    version: i64,
    caller: &Identity,
) -> Result<(), Error> {
    let found = find(conn, name, version).await?;
    let id = format!("{name} {version}");
    check_owner(caller, found.job_id.as_deref(), "model version", &id)?;
    Ok(())
}
