//! Tables that clients send: how much memory all of them together take, and those that wait until
//! their client asks for the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use web::Identity;

use super::Command;
use crate::error::Error;

/// The largest upload in all, in bytes: some 20 million entity rows.
pub(crate) const UPLOAD_LIMIT: usize = 512 * 1024 * 1024;

/// How many mebibytes all uploads together may hold: those that arrive, those that are answered, and
/// those that wait.
const ROOM_MIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// How long an upload waits. SDKs ask for the answer as soon as they have sent it.
const WAITING_TIME: Duration = Duration::from_secs(120);

/// The uploads of all clients; cheap to clone.
#[derive(Clone)]
pub(crate) struct Uploads {
    /// In mebibytes.
    room: Arc<Semaphore>,
    waiting: Arc<Mutex<HashMap<Ticket, (Instant, Upload)>>>,
}

/// Who sent an upload, and what he calls it: nobody else's name for it finds it.
type Ticket = (Identity, String);

/// What was sent.
pub(crate) struct Upload {
    pub(crate) command: Command,
    pub(crate) table: RecordBatch,
    /// For as long as the rows are there.
    pub(crate) held: Arc<Held>,
}

/// The memory of an upload, which others cannot have until it is dropped.
pub(crate) struct Held {
    room: Arc<Semaphore>,
    permits: Mutex<Vec<OwnedSemaphorePermit>>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self::of(ROOM_MIB)
    }
}

impl Uploads {
    fn of(room_mib: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(room_mib)),
            waiting: Arc::default(),
        }
    }

    /// The memory of an upload that begins: none yet.
    pub(crate) fn begin(&self) -> Arc<Held> {
        Arc::new(Held {
            room: self.room.clone(),
            permits: Mutex::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Ticket, (Instant, Upload)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an upload until its sender asks for the answer.
    ///
    /// # Errors
    /// When its command has no id.
    pub(crate) fn keep(&self, sender: &Identity, upload: Upload) -> Result<(), Error> {
        let id = upload.command.command_id.clone();
        if id.is_empty() {
            return Err(Error::Invalid(
                "the Flight command has no command_id".to_owned(),
            ));
        }
        self.waiting()
            .insert((sender.clone(), id), (Instant::now(), upload));
        Ok(())
    }

    /// Gives out what `sender` sent under that id, once.
    ///
    /// # Errors
    /// When there is no such upload of his.
    pub(crate) fn take(&self, sender: &Identity, id: String) -> Result<Upload, Error> {
        let found = self.waiting().remove(&(sender.clone(), id));
        let found = found.filter(|(since, _)| since.elapsed() < WAITING_TIME);
        found.map(|(_, upload)| upload).ok_or_else(|| {
            Error::Invalid(
                "the upload of this ticket is not here: it was read already, waited too long, or is somebody else's"
                    .to_owned(),
            )
        })
    }

    /// Keeps an upload once more whose answer failed for the moment, unless its sender has sent
    /// another one by that id.
    pub(crate) fn give_back(&self, sender: &Identity, upload: Upload) {
        let ticket = (sender.clone(), upload.command.command_id.clone());
        let mut waiting = self.waiting();
        waiting.entry(ticket).or_insert((Instant::now(), upload));
    }

    /// Drops the uploads that nobody asked for.
    pub(crate) fn forget_old(&self) {
        self.waiting()
            .retain(|_, (since, _)| since.elapsed() < WAITING_TIME);
    }
}

impl Held {
    fn permits(&self) -> MutexGuard<'_, Vec<OwnedSemaphorePermit>> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.permits().len() * MIB
    }

    /// Holds as much as `bytes` need in all, and no more.
    ///
    /// # Errors
    /// When they are more than others leave.
    pub(crate) fn resize(&self, bytes: usize) -> Result<(), Error> {
        let mut permits = self.permits();
        permits.truncate(bytes.div_ceil(MIB));
        while permits.len() < bytes.div_ceil(MIB) {
            let more = self.room.clone().try_acquire_owned().map_err(|_| Error::Later {
                what: "the tables that are being read hold all the memory that there is for them (1 GiB)"
                    .to_owned(),
                help: "try again in some minutes, or send smaller tables",
            })?;
            permits.push(more);
        }
        Ok(())
    }

    /// Holds what was made of an upload in place of what arrived; nothing for what never counted.
    ///
    /// # Errors
    /// As [`Self::resize`].
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), Error> {
        match bytes {
            ..MIB => self.resize(0),
            _ => self.resize(bytes),
        }
    }

    /// Holds what has arrived of an upload.
    ///
    /// # Errors
    /// As [`Self::resize`], and when it is more than one upload may have.
    pub(crate) fn arrived(&self, bytes: usize) -> Result<(), Error> {
        if bytes > UPLOAD_LIMIT {
            return Err(Error::Invalid(
                "the table is larger than 512 MiB: send it in parts".to_owned(),
            ));
        }
        self.resize(bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;

    fn upload(uploads: &Uploads, id: &str) -> Upload {
        let command = format!(r#"{{"api": "get_historical_features", "command_id": "{id}"}}"#);
        Upload {
            command: Command::parse(command.as_bytes()).unwrap(),
            table: RecordBatch::new_empty(Arc::new(Schema::empty())),
            held: uploads.begin(),
        }
    }

    #[test]
    fn uploads_share_the_room_that_there_is_and_give_it_back() {
        let uploads = Uploads::of(10);
        let (one, other) = (uploads.begin(), uploads.begin());
        one.arrived(6 * MIB).unwrap();
        one.arrived(6 * MIB).unwrap();
        let refused = other.arrived(5 * MIB).unwrap_err();
        assert!(refused.help().unwrap().contains("try again"), "{refused}");
        // What it got so far is given back with it.
        drop(other);
        uploads.begin().arrived(4 * MIB).unwrap();
        one.resize(1).unwrap();
        uploads.begin().arrived(9 * MIB).unwrap();
        drop(one);
        uploads.begin().arrived(10 * MIB).unwrap();
        let large = Uploads::default().begin();
        let refused = large.arrived(UPLOAD_LIMIT + 1).unwrap_err().to_string();
        assert!(refused.contains("in parts"), "{refused}");
    }

    #[test]
    fn an_upload_is_found_by_who_sent_it_and_by_nobody_else() {
        let uploads = Uploads::default();
        let job = |id: &str| Identity::Job {
            job_id: id.to_owned(),
        };
        uploads.keep(&job("1"), upload(&uploads, "a")).unwrap();
        let refused = uploads.take(&job("2"), "a".to_owned()).err().unwrap();
        assert!(refused.to_string().contains("is not here"), "{refused}");
        // Nor does another one's upload of the same name take its place.
        uploads.keep(&job("2"), upload(&uploads, "a")).unwrap();
        assert!(uploads.take(&job("1"), "a".to_owned()).is_ok());
        assert!(uploads.take(&job("1"), "a".to_owned()).is_err());
        assert!(uploads.take(&job("2"), "a".to_owned()).is_ok());
        assert!(uploads.keep(&job("1"), upload(&uploads, "")).is_err());
    }

    #[test]
    fn an_upload_whose_answer_failed_for_the_moment_is_found_again() {
        let uploads = Uploads::of(1);
        let sender = Identity::Anonymous;
        let sent = upload(&uploads, "a");
        sent.held.arrived(MIB).unwrap();
        uploads.keep(&sender, sent).unwrap();
        let found = uploads.take(&sender, "a".to_owned()).unwrap();
        uploads.give_back(&sender, found);
        // It holds its memory until then.
        assert!(uploads.begin().arrived(MIB).is_err());
        let found = uploads.take(&sender, "a".to_owned()).unwrap();
        // What was sent since by the same id is what is asked for.
        let newer = upload(&uploads, "a");
        let held = newer.held.clone();
        uploads.keep(&sender, newer).unwrap();
        uploads.give_back(&sender, found);
        let found = uploads.take(&sender, "a".to_owned()).unwrap();
        assert!(Arc::ptr_eq(&found.held, &held));
        assert!(uploads.take(&sender, "a".to_owned()).is_err());
        drop(found);
        uploads.begin().arrived(MIB).unwrap();
    }
}
