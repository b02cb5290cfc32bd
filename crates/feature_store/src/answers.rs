//! Answers that are made and sent, and requests that are read: how much memory all of them together
//! take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// How many mebibytes all large answers together may take, and all others: those do not wait behind
/// one that needs much. A large one that needs more than there is has no other large one beside it.
const LARGE_ROOM_MIB: usize = 768;
const ROOM_MIB: usize = 256;
const MIB: usize = 1024 * 1024;

/// From how many bytes on an answer is a large one.
const LARGE_BYTES: usize = 32 * MIB;

/// What is smaller never waits.
const SMALL_BYTES: usize = 8 * MIB;

/// Rows in a batch of an answer.
const SENT_ROWS: usize = 65_536;

/// How long a read waits for those before it.
const WAITING_TIME: Duration = Duration::from_secs(60);

/// The answers to all clients, or what all of them ask; cheap to clone.
#[derive(Clone)]
pub(crate) struct Answers {
    /// What holds the memory, for who gets none.
    held_by: &'static str,
    /// Both in mebibytes.
    room: Arc<Semaphore>,
    large_room: Arc<Semaphore>,
    waiting_time: Duration,
}

/// The memory of an answer, which others cannot have until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<Semaphore>,
    permit: Mutex<OwnedSemaphorePermit>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            held_by: "the features that others are fetching hold",
            room: Arc::new(Semaphore::new(ROOM_MIB)),
            large_room: Arc::new(Semaphore::new(LARGE_ROOM_MIB)),
            waiting_time: WAITING_TIME,
        }
    }
}

impl Answers {
    /// Memory of its own for requests: who waits with one for his answer keeps nobody from his.
    pub(crate) fn of_requests() -> Self {
        Self {
            held_by: "the rows that others are sending hold",
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn with_large_room(mebibytes: usize) -> Self {
        Self {
            large_room: Arc::new(Semaphore::new(mebibytes)),
            ..Self::default()
        }
    }

    /// How many bytes answers could take that are not large.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.room.available_permits() * MIB
    }

    /// Waits until an answer may take about so many bytes.
    ///
    /// # Errors
    /// When others keep their memory for too long.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Arc<Held>, Error> {
        let room = match bytes {
            LARGE_BYTES.. => &self.large_room,
            _ => &self.room,
        };
        if bytes < SMALL_BYTES {
            let none = room.clone().try_acquire_many_owned(0);
            return Ok(Held::new(room, none.expect("so many are always there")));
        }
        let permit = room.clone().acquire_many_owned(mebibytes(bytes));
        let later = |_| Error::Later {
            what: format!(
                "{} all the memory that there is for them (1 GiB)",
                self.held_by
            ),
            help: "try again in some minutes, or ask for fewer rows",
        };
        let permit = timeout(self.waiting_time, permit).await.map_err(later)?;
        Ok(Held::new(room, permit.expect("it is never closed")))
    }
}

/// Rows that are there, in batches that are sent one after the other: what is held for them is held
/// until they are gone.
pub(crate) fn batches(
    rows: RecordBatch,
    held: Option<Arc<Held>>,
) -> BoxStream<'static, Result<RecordBatch, Error>> {
    let starts = (0..rows.num_rows()).step_by(SENT_ROWS);
    let batch = move |start| {
        // A closure has only what it names.
        let _held = &held;
        Ok(rows.slice(start, SENT_ROWS.min(rows.num_rows() - start)))
    };
    stream::iter(starts.map(batch)).boxed()
}

impl Held {
    fn new(room: &Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            room: room.clone(),
            permit: Mutex::new(permit),
        })
    }

    fn permit(&self) -> MutexGuard<'_, OwnedSemaphorePermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what the rows really take: gives back the rest, or has more as far as there is some.
    pub(crate) fn fit(&self, rows: &RecordBatch) {
        let wanted = mebibytes(bytes_of(rows)) as usize;
        let mut permit = self.permit();
        let there = permit.num_permits();
        drop(permit.split(there.saturating_sub(wanted)));
        let more = wanted
            .saturating_sub(there)
            .min(self.room.available_permits());
        if let Ok(more) = self.room.clone().try_acquire_many_owned(more as u32) {
            permit.merge(more);
        }
    }
}

fn mebibytes(bytes: usize) -> u32 {
    match bytes {
        ..SMALL_BYTES => 0,
        SMALL_BYTES..LARGE_BYTES => bytes.div_ceil(MIB) as u32,
        _ => bytes.div_ceil(MIB).min(LARGE_ROOM_MIB) as u32,
    }
}

/// What rows take, of buffers that several columns share each his own part.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(column_bytes).sum()
}

/// The same of one column.
pub(crate) fn column_bytes(column: &ArrayRef) -> usize {
    let size = column.to_data().get_slice_memory_size();
    size.unwrap_or_else(|_| column.get_array_memory_size())
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;

    use super::*;

    fn rows(bytes: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; bytes / 8]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    fn hasty() -> Answers {
        Answers {
            waiting_time: Duration::from_millis(10),
            ..Answers::default()
        }
    }

    #[tokio::test]
    async fn answers_wait_for_the_memory_of_others_and_are_refused_when_they_wait_too_long() {
        let answers = hasty();
        let one = answers.hold(usize::MAX).await.unwrap();
        let refused = answers.hold(LARGE_BYTES).await.err().unwrap();
        assert_eq!(refused.code(), web::Code::Unavailable);
        let patient = Answers {
            waiting_time: Duration::from_secs(60),
            ..answers.clone()
        };
        let (other, ()) = tokio::join!(patient.hold(LARGE_BYTES), async { drop(one) });
        other.unwrap();
        assert_eq!(answers.large_room.available_permits(), LARGE_ROOM_MIB);
    }

    #[tokio::test]
    async fn a_large_answer_that_waits_holds_up_none_that_needs_less() {
        let answers = hasty();
        let large = answers.hold(usize::MAX).await.unwrap();
        let patient = Answers {
            waiting_time: Duration::from_secs(60),
            ..answers.clone()
        };
        let (waited, ()) = tokio::join!(patient.hold(usize::MAX), async {
            let some = answers.hold(LARGE_BYTES - 1).await.unwrap();
            // Nor do small ones wait for those.
            let rest = answers.hold(LARGE_BYTES - 1);
            let mut others = vec![some, rest.await.unwrap()];
            while let Ok(more) = answers.hold(SMALL_BYTES).await {
                others.push(more);
            }
            answers.hold(SMALL_BYTES - 1).await.unwrap();
            drop(large);
        });
        waited.unwrap();
    }

    #[tokio::test]
    async fn an_answer_holds_what_it_takes_in_the_end() {
        let answers = Answers::default();
        let free = || answers.large_room.available_permits();
        let held = answers.hold(100 * MIB).await.unwrap();
        held.fit(&rows(9 * MIB));
        assert_eq!(free(), LARGE_ROOM_MIB - 9);
        held.fit(&rows(12 * MIB));
        assert_eq!(free(), LARGE_ROOM_MIB - 12);
        // It is there already: it goes on with what is left.
        let rest = answers.hold((LARGE_ROOM_MIB - 13) * MIB).await.unwrap();
        held.fit(&rows(20 * MIB));
        assert_eq!(free(), 0);
        drop((held, rest));
        assert_eq!(free(), LARGE_ROOM_MIB);
        // One that was thought to be small.
        let held = answers.hold(0).await.unwrap();
        held.fit(&rows(10 * MIB));
        assert_eq!(answers.room.available_permits(), ROOM_MIB - 10);
        // Rows of a table that is kept anyhow are counted as the part that they are.
        let part = rows(8 * MIB).slice(0, MIB / 8);
        assert_eq!(bytes_of(&part), MIB);
    }

    #[tokio::test]
    async fn rows_are_held_until_the_last_of_them_is_sent() {
        let answers = Answers::default();
        let held = answers.hold(SMALL_BYTES).await.unwrap();
        let mut sent = batches(rows(8 * (SENT_ROWS + 1)), Some(held));
        assert_eq!(answers.room.available_permits(), ROOM_MIB - 8);
        let mut lengths = Vec::new();
        while let Some(batch) = sent.next().await {
            lengths.push(batch.unwrap().num_rows());
            assert_eq!(answers.room.available_permits(), ROOM_MIB - 8);
        }
        assert_eq!(lengths, [SENT_ROWS, 1]);
        drop(sent);
        assert_eq!(answers.room.available_permits(), ROOM_MIB);
    }
}
