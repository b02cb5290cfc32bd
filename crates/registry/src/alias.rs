//! Aliases: names that point at one version of a model, such as `champion`.

use web::{Identity, Timestamp};

use crate::Registry;
use crate::error::Error;
use crate::name;
use crate::selector::Selector;
use crate::store::{aliases, models, versions};
use crate::version::find_owned;

impl Registry {
    /// Points an alias at a version; one that pointed elsewhere moves.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a reserved alias, [`Error::ModelNotFound`],
    /// [`Error::VersionNotFound`].
    pub async fn set_alias(&self, name: &str, alias: &str, version: i64) -> Result<(), Error> {
        self.set_alias_as(&Identity::Local, name, alias, version)
            .await
    }

    /// Points an alias at a version for a caller. A job does so with versions that it made itself,
    /// and takes the alias from a version of others only when its uploader might.
    pub(crate) async fn set_alias_as(
        &self,
        caller: &Identity,
        name: &str,
        alias: &str,
        version: i64,
    ) -> Result<(), Error> {
        name::check_alias(alias)?;
        let may_promote = self.may_promote(caller).await?;
        let mut tx = self.db.begin().await?;
        // Nobody moves the alias between the look and the change.
        if !models::touch(&mut tx, name, Timestamp::now().0).await? {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        find_owned(&mut tx, name, version, caller).await?;
        if !may_promote {
            check_free(&mut tx, name, alias, caller).await?;
        }
        aliases::set(&mut tx, name, alias, version).await?;
        self.tell_alias(&mut tx, name, alias, Some(version)).await?;
        self.commit(tx).await
    }

    /// Removes an alias for a caller; one that is not there is fine. A job removes those of
    /// versions that it made itself.
    pub(crate) async fn delete_alias(
        &self,
        caller: &Identity,
        name: &str,
        alias: &str,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if !models::touch(&mut tx, name, Timestamp::now().0).await? {
            return Err(Error::ModelNotFound(name.to_owned()));
        }
        check_free(&mut tx, name, alias, caller).await?;
        aliases::delete(&mut tx, name, alias).await?;
        self.tell_alias(&mut tx, name, alias, None).await?;
        self.commit(tx).await
    }
}

/// Refuses a job whose alias points at a version of others.
async fn check_free(
    conn: &mut db::Conn,
    name: &str,
    alias: &str,
    caller: &Identity,
) -> Result<(), Error> {
    let which = Selector::Alias(alias.to_owned());
    let Some(holder) = versions::select(conn, name, &which).await? else {
        return Ok(());
    };
    match caller.job_id() {
        Some(job_id) if holder.job_id.as_deref() != Some(job_id) => Err(Error::NotPromoted {
            what: format!("the alias {alias:?}"),
            name: name.to_owned(),
            version: holder.version,
            job_id: job_id.to_owned(),
        }),
        _ => Ok(()),
    }
}
