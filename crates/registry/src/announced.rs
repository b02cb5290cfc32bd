//! Telling which versions are complete: their files are stored, and so is what their job says of
//! them. Who listens may get ready for them before anybody asks.

use tokio::sync::broadcast;

use crate::Registry;

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

    /// Hears of the versions that are completed from now on through this handle and its clones.
    pub fn announced(&self) -> broadcast::Receiver<Announced> {
        self.announcements.subscribe()
    }
}
