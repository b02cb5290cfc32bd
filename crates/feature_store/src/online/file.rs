//! The file of the online store, which is opened anew after the disk has failed it.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use redb::Database;

/// The file; closed with its last user.
pub(super) struct File {
    path: PathBuf,
    /// Nothing between a failure and the next use.
    open: RwLock<Option<Database>>,
}

impl File {
    /// Opens the file, or makes it.
    pub(super) fn open(path: PathBuf) -> Result<Self, redb::Error> {
        let database = Database::create(&path)?;
        Ok(Self {
            path,
            open: RwLock::new(Some(database)),
        })
    }

    /// Does something with the file. One that the disk has failed (a full one, too) takes nothing more
    /// until it is opened anew, which the next use does.
    pub(super) fn with<T>(
        &self,
        each: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let done = self.used(each);
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = done {
            *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        done
    }

    fn used<T>(
        &self,
        each: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        if let Some(database) = &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
            return each(database);
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => Database::create(&self.path)?,
        };
        each(open.insert(database))
    }
}
