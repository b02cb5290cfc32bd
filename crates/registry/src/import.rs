//! Taking over what another MLflow server's registry kept: names, numbers and times stay as they
//! were.
//!
//! Each function takes a list and writes it in one transaction. What is here already stays as it
//! is, so an import that was killed is simply run again.

use tracking::import::Taken;

use crate::Registry;
use crate::error::Error;
use crate::model::RegisteredModel;
use crate::store::imports;
use crate::version::ModelVersion;

/// A tag of a registered model, or of one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedTag {
    pub model: String,
    pub version: Option<i64>,
    pub key: String,
    pub value: String,
}

/// An alias of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedAlias {
    pub model: String,
    pub alias: String,
    pub version: i64,
}

impl Registry {
    /// The models of these names that are here but were made at another time: not by this import.
    pub async fn models_in_the_way(
        &self,
        coming: &[RegisteredModel],
    ) -> Result<Vec<String>, Error> {
        let mut conn = self.db.acquire().await?;
        let mut in_the_way = Vec::new();
        for model in coming {
            let found = crate::store::models::find(&mut conn, &model.name).await?;
            if found.is_some_and(|found| found.created_at != model.created_at) {
                in_the_way.push(model.name.clone());
            }
        }
        Ok(in_the_way)
    }

    /// Takes registered models over, without tags, versions and aliases.
    pub async fn import_models(&self, models: &[RegisteredModel]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let mut taken = Taken::default();
        for model in models {
            taken.new += imports::model(&mut tx, model).await?;
        }
        self.commit(tx).await?;
        Ok(taken)
    }

    /// Takes versions over, without tags. Their numbers are not used again.
    pub async fn import_versions(&self, versions: &[ModelVersion]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let mut taken = Taken::default();
        for version in versions {
            if imports::skip_versions(&mut tx, &version.name, version.version).await? == 0 {
                taken.orphans += 1;
                continue;
            }
            taken.new += imports::version(&mut tx, version).await?;
        }
        self.commit(tx).await?;
        Ok(taken)
    }

    /// Keeps the numbers of a model up to this one from being used: versions had them once.
    pub async fn import_last_version(&self, model: &str, version: i64) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        imports::skip_versions(&mut tx, model, version).await?;
        self.commit(tx).await
    }

    /// Takes tags of models and versions over.
    pub async fn import_tags(&self, tags: &[ImportedTag]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let mut taken = Taken::default();
        for tag in tags {
            match imports::tag(&mut tx, tag).await? {
                Some(new) => taken.new += new,
                None => taken.orphans += 1,
            }
        }
        self.commit(tx).await?;
        Ok(taken)
    }

    /// Takes aliases over.
    pub async fn import_aliases(&self, aliases: &[ImportedAlias]) -> Result<Taken, Error> {
        let mut tx = self.db.begin().await?;
        let mut taken = Taken::default();
        for alias in aliases {
            match imports::alias(&mut tx, alias).await? {
                Some(new) => taken.new += new,
                None => taken.orphans += 1,
            }
        }
        self.commit(tx).await?;
        Ok(taken)
    }
}
