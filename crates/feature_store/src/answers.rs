//! Answers that are made and sent: how much memory all of them together take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{Array as _, RecordBatch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::Error;

/// How many mebibytes all answers together may take. One that needs more than that is alone.
const ROOM_MIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// How long a read waits for those before it.
const WAITING_TIME: Duration = Duration::from_secs(60);

/// The answers to all clients; cheap to clone.
#[derive(Clone)]
pub(crate) struct Answers {
    /// In mebibytes.
    room: Arc<Semaphore>,
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
            room: Arc::new(Semaphore::new(ROOM_MIB)),
            waiting_time: WAITING_TIME,
        }
    }
}

impl Answers {
    /// Waits until an answer may take about so many bytes.
    ///
    /// # Errors
    /// When others keep their memory for too long.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Arc<Held>, Error> {
        let room = self.room.clone().acquire_many_owned(mebibytes(bytes));
        let later = |_| {
            Error::Later {
            what: "the features that others are fetching hold all the memory that there is for them (1 GiB)"
                .to_owned(),
            help: "try again in some minutes, or ask for fewer rows",
        }
        };
        let permit = timeout(self.waiting_time, room).await.map_err(later)?;
        Ok(Arc::new(Held {
            room: self.room.clone(),
            permit: Mutex::new(permit.expect("it is never closed")),
        }))
    }
}

impl Held {
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
    bytes.div_ceil(MIB).clamp(1, ROOM_MIB) as u32
}

/// What rows take, of buffers that several columns share each his own part.
pub(crate) fn bytes_of(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter().map(|column| {
        let size = column.to_data().get_slice_memory_size();
        size.unwrap_or_else(|_| column.get_array_memory_size())
    });
    columns.sum()
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(bytes: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; bytes / 8]));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    #[tokio::test]
    async fn answers_wait_for_the_memory_of_others_and_are_refused_when_they_wait_too_long() {
        let answers = Answers {
            waiting_time: Duration::from_millis(10),
            ..Answers::default()
        };
        let one = answers.hold(usize::MAX).await.unwrap();
        let refused = answers.hold(1).await.err().unwrap();
        assert_eq!(refused.code(), web::Code::Unavailable);
        let patient = Answers {
            waiting_time: Duration::from_secs(60),
            ..answers.clone()
        };
        let (other, ()) = tokio::join!(patient.hold(1), async { drop(one) });
        other.unwrap();
        assert_eq!(answers.room.available_permits(), ROOM_MIB);
    }

    #[tokio::test]
    async fn an_answer_holds_what_it_takes_in_the_end() {
        let answers = Answers::default();
        let held = answers.hold(100 * MIB).await.unwrap();
        held.fit(&rows(3 * MIB));
        assert_eq!(answers.room.available_permits(), ROOM_MIB - 3);
        held.fit(&rows(5 * MIB));
        assert_eq!(answers.room.available_permits(), ROOM_MIB - 5);
        // It is there already: it goes on with what is left.
        let rest = answers.hold((ROOM_MIB - 6) * MIB).await.unwrap();
        held.fit(&rows(9 * MIB));
        assert_eq!(answers.room.available_permits(), 0);
        drop((held, rest));
        assert_eq!(answers.room.available_permits(), ROOM_MIB);
        // Rows of a table that is kept anyhow are counted as the part that they are.
        let part = rows(8 * MIB).slice(0, MIB / 8);
        assert_eq!(bytes_of(&part), MIB);
    }
}
