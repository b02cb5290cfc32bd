//! A part of an answer that waits for its client on the disk and not in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_flight::FlightData;
use axum::body::Bytes;
use prost::Message as _;
use rustix::fs::fstatvfs;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cores::ended;
use crate::error::Error;

/// The most bytes of one answer that wait, and of how many answers.
const MOST_BYTES: u64 = 2 << 30;
const MOST_SPOOLS: usize = 16;

/// So much of the disk is left to what is kept for good, where nothing else is asked for.
const LEFT_FREE_BYTES: u64 = 1 << 30;

/// What an answer is sent in.
pub(super) trait Part: Send + Sync + 'static + Sized {
    /// As it stands in a file.
    fn to_bytes(&self) -> Bytes;
    /// The same again.
    fn from_bytes(bytes: Bytes) -> Option<Self>;
}

impl Part for Bytes {
    fn to_bytes(&self) -> Bytes {
        self.clone()
    }

    fn from_bytes(bytes: Bytes) -> Option<Self> {
        Some(bytes)
    }
}

impl Part for FlightData {
    fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    fn from_bytes(bytes: Bytes) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

/// Where parts wait; cheap to clone.
#[derive(Clone)]
pub(crate) struct Spools {
    dir: PathBuf,
    room: Arc<Semaphore>,
    left_free_bytes: u64,
}

impl Spools {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            room: Arc::new(Semaphore::new(MOST_SPOOLS)),
            left_free_bytes: LEFT_FREE_BYTES,
        }
    }

    /// The same, but for how much of the disk they leave.
    #[cfg(test)]
    pub(super) fn leaving_free(self, bytes: u64) -> Self {
        Self {
            left_free_bytes: bytes,
            ..self
        }
    }

    /// Room for the parts of one answer; none when there are too many, or no file can be made. The
    /// file has no name: nothing of it stays behind.
    pub(super) async fn begin(&self) -> Option<Spool> {
        let room = self.room.clone().try_acquire_owned().ok()?;
        let dir = self.dir.clone();
        let made = on_disk(move || {
            std::fs::create_dir_all(&dir)?;
            tempfile::tempfile_in(&dir)
        });
        match made.await {
            Ok(file) => Some(Spool {
                file: Arc::new(file),
                lengths: VecDeque::new(),
                first: 0,
                end: 0,
                left_free_bytes: self.left_free_bytes,
                _room: room,
            }),
            Err(error) => {
                tracing::warn!(%error, "an answer whose client is slow stays in memory");
                None
            }
        }
    }
}

/// Parts in the order in which they were put.
pub(super) struct Spool {
    file: Arc<File>,
    lengths: VecDeque<usize>,
    /// Where the first part begins, and the last one ends.
    first: u64,
    end: u64,
    left_free_bytes: u64,
    _room: OwnedSemaphorePermit,
}

impl Spool {
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Keeps a part; tells whether there was room for it.
    pub(super) async fn put<T: Part>(&mut self, part: &T) -> bool {
        if self.is_empty() {
            (self.first, self.end) = (0, 0);
        }
        let bytes = part.to_bytes();
        let (length, at) = (bytes.len(), self.end);
        let end = at + length as u64;
        if end > MOST_BYTES {
            return false;
        }
        let file = self.file.clone();
        let needed = self.left_free_bytes.saturating_add(length as u64);
        let written = on_disk(move || {
            let disk = fstatvfs(&file)?;
            if disk.f_bavail.saturating_mul(disk.f_frsize) < needed {
                return Ok(false);
            }
            file.write_all_at(&bytes, at)?;
            Ok(true)
        });
        let kept = written.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "an answer whose client is slow stays in memory");
            false
        });
        if kept {
            self.lengths.push_back(length);
            self.end = end;
        }
        kept
    }

    /// The first part, which is not kept any longer; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn take<T: Part>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.lengths.pop_front() else {
            return Ok(None);
        };
        let (file, at) = (self.file.clone(), self.first);
        self.first += length as u64;
        let bytes = on_disk(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        });
        let part = T::from_bytes(bytes.await?.into());
        part.map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    ended(done).map_err(|error: Error| io::Error::other(error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_come_back_in_their_order_as_they_went() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::new(dir.path().join("new")).leaving_free(0);
        let mut spool = spools.begin().await.unwrap();
        for round in 0..3_u8 {
            for part in 0..10_u8 {
                let bytes = Bytes::from(vec![round; part.into()]);
                let part = FlightData::new()
                    .with_app_metadata(vec![part])
                    .with_data_body(bytes);
                assert!(spool.put(&part).await);
            }
            for part in 0..10_u8 {
                let found: FlightData = spool.take().await.unwrap().unwrap();
                assert_eq!(found.app_metadata, vec![part]);
                assert_eq!(found.data_body, vec![round; part.into()]);
            }
            assert!(spool.is_empty());
            assert!(spool.take::<FlightData>().await.unwrap().is_none());
        }
        // Nobody else finds it, and nothing stays.
        assert_eq!(
            std::fs::read_dir(dir.path().join("new")).unwrap().count(),
            0
        );
    }

    #[tokio::test]
    async fn what_has_no_room_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::new(dir.path().to_owned()).leaving_free(0);
        let mut spool = spools.begin().await.unwrap();
        let part = Bytes::from_static(b"part");
        spool.lengths.push_back(0);
        spool.end = MOST_BYTES - 3;
        assert!(!spool.put(&part).await);
        spool.end -= 1;
        assert!(spool.put(&part).await);
        let mut all = vec![spool];
        while let Some(spool) = spools.begin().await {
            all.push(spool);
        }
        assert_eq!(all.len(), MOST_SPOOLS);
        drop(all);
        assert!(spools.begin().await.is_some());
        let full = spools.leaving_free(u64::MAX);
        assert!(!full.begin().await.unwrap().put(&part).await);
        let nowhere = Spools::new("/proc/nowhere".into());
        assert!(nowhere.begin().await.is_none());
    }
}
