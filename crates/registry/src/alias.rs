//! Aliases: names that point at one version of a model, such as `champion`.

use web::Timestamp;

use crate::Registry;
use crate::error::Error;
use crate::name;
use crate::selector::Selector;
use crate::store::{aliases, models, versions};
use crate::version::version_not_found;

impl Registry {
    /// Points an alias at a version; one that pointed elsewhere moves.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a reserved alias, [`Error::ModelNotFound`],
    /// [`Error::VersionNotFound`].
    pub async fn set_alias(&self, name: &str, alias: &str, version: i64) -> Result<(), Error> {
        name::check_alias(alias)?;
        let mut tx = self.db.begin().await?;
        if models::find(&mut tx, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        let which = Selector::Number(version);
        if versions::select(&mut tx, name, &which).await?.is_none() {
            return Err(version_not_found(name, version));
        }
        aliases::set(&mut tx, name, alias, version).await?;
        models::touch(&mut tx, name, Timestamp::now().0).await?;
        self.commit(tx).await
    }

    /// Removes an alias; one that is not there is fine.
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if models::find(&mut tx, name).await?.is_none() {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        aliases::delete(&mut tx, name, alias).await?;
        models::touch(&mut tx, name, Timestamp::now().0).await?;
        self.commit(tx).await
    }
}
