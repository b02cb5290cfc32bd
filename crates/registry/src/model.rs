//! Registered models: names that versions are kept under.

use std::collections::BTreeMap;

use tracking::check_owner;
use web::{Identity, Timestamp};

use crate::Registry;
use crate::error::Error;
use crate::external;
use crate::name;
use crate::store::{models, versions};
use crate::version::ModelVersion;

/// A registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredModel {
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    /// The version that each alias points at.
    pub aliases: BTreeMap<String, i64>,
    /// The newest version in each stage that has one, by number.
    pub latest_versions: Vec<ModelVersion>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
    /// The job that made it.
    pub job_id: Option<String>,
}

impl Registry {
    /// Makes a registered model.
    ///
    /// # Errors
    /// [`Error::ModelExists`], [`Error::Invalid`] for a name or tag that cannot be.
    pub async fn create_model(
        &self,
        name: &str,
        description: &str,
        tags: &[(String, String)],
        job_id: Option<&str>,
    ) -> Result<RegisteredModel, Error> {
        name::check_model(name)?;
        name::check_tags(tags)?;
        let now = Timestamp::now().0;
        let model = RegisteredModel {
            name: name.to_owned(),
            description: description.to_owned(),
            tags: tags.iter().cloned().collect(),
            aliases: BTreeMap::new(),
            latest_versions: Vec::new(),
            created_at: now,
            updated_at: now,
            job_id: job_id.map(str::to_owned),
        };
        let mut tx = self.db.begin().await?;
        if !models::insert(&mut tx, &model).await? {
            // On SQLite it may be of the same group: whoever is told of it finds it from now on.
            tx.commit().await?;
            return Err(Error::ModelExists(name.to_owned()));
        }
        self.tell_model_created(&mut tx, &model).await?;
        self.commit(tx).await?;
        Ok(model)
    }

    /// Makes a registered model unless there is one of this name.
    pub async fn create_model_if_missing(
        &self,
        name: &str,
        job_id: Option<&str>,
    ) -> Result<(), Error> {
        if let Some(external) = self.tracking.external() {
            let made = external::create_model_if_missing(external, name, job_id).await;
            self.changed();
            return made;
        }
        match self.create_model(name, "", &[], job_id).await {
            Ok(_) | Err(Error::ModelExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The registered model of this name.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`].
    pub async fn get_model(&self, name: &str) -> Result<RegisteredModel, Error> {
        if let Some(external) = self.tracking.external() {
            return external::get_model(external, name).await;
        }
        let mut conn = self.db.acquire().await?;
        get(&mut conn, name).await
    }

    /// Changes the description of a model.
    pub async fn update_model(
        &self,
        name: &str,
        description: &str,
        caller: &Identity,
    ) -> Result<RegisteredModel, Error> {
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, name, caller).await?;
        models::update_description(&mut tx, name, description, Timestamp::now().0).await?;
        let model = get(&mut tx, name).await?;
        self.commit(tx).await?;
        Ok(model)
    }

    /// Gives a model another name; its versions, tags and aliases come along.
    ///
    /// # Errors
    /// [`Error::ModelExists`] when the name is taken.
    pub async fn rename_model(&self, name: &str, new_name: &str) -> Result<RegisteredModel, Error> {
        name::check_model(new_name)?;
        let mut tx = self.db.begin().await?;
        if models::find(&mut tx, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        let now = Timestamp::now().0;
        models::rename(&mut tx, name, new_name, now)
            .await
            .map_err(|error| match error.is_unique_violation() {
                true => Error::ModelExists(new_name.to_owned()),
                false => error.into(),
            })?;
        let model = get(&mut tx, new_name).await?;
        self.commit(tx).await?;
        Ok(model)
    }

    /// Deletes a model with all its versions; their files stay.
    pub async fn delete_model(&self, name: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if models::delete(&mut tx, name).await? == 0 {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        self.commit(tx).await
    }

    /// Sets a tag of a model.
    pub async fn set_model_tag(
        &self,
        name: &str,
        key: &str,
        value: &str,
        caller: &Identity,
    ) -> Result<(), Error> {
        name::check_tag(key, value)?;
        let mut tx = self.db.begin().await?;
        find_owned(&mut tx, name, caller).await?;
        models::set_tag(&mut tx, name, key, value).await?;
        self.tell_model_tag(&mut tx, name, key, Some(value)).await?;
        self.commit(tx).await
    }

    /// Removes a tag of a model; one that is not there is fine.
    pub async fn delete_model_tag(&self, name: &str, key: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if models::find(&mut tx, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        models::delete_tag(&mut tx, name, key).await?;
        self.tell_model_tag(&mut tx, name, key, None).await?;
        self.commit(tx).await
    }
}

async fn get(conn: &mut db::Conn, name: &str) -> Result<RegisteredModel, Error> {
    let mut model = models::find(conn, name)
        .await?
        .ok_or_else(|| Error::ModelNotFound(name.to_owned()))?;
    model.latest_versions = versions::list_latest(conn, &[name]).await?;
    Ok(model)
}

async fn find_owned(conn: &mut db::Conn, name: &str, caller: &Identity) -> Result<(), Error> {
    let model = models::find(conn, name)
        .await?
        .ok_or_else(|| Error::ModelNotFound(name.to_owned()))?;
    check_owner(caller, model.job_id.as_deref(), "registered model", name)?;
    Ok(())
}
