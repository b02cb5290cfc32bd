//! Memory that large reads leave behind: free, but kept by the process until it is given back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

/// Less than this is not worth the while.
const LARGE_BYTES: u64 = 16 * 1024 * 1024;

/// All that is freed within so long is given back at once: the allocator holds up everybody
/// meanwhile, reads of online values too.
const BETWEEN: Duration = Duration::from_secs(1);

/// Whether memory will be given back in a moment.
static SOON: AtomicBool = AtomicBool::new(false);

/// One at a time.
static GIVING: Mutex<()> = Mutex::new(());

/// The bytes that a read has taken so far. When it is dropped, at the read's end or when nobody
/// waits for it any more, their memory is given back to the system.
#[derive(Default)]
pub(crate) struct Freed(AtomicU64);

impl Freed {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Freed {
    fn drop(&mut self) {
        give_back(*self.0.get_mut());
    }
}

/// Gives memory back to the system soon, beside what goes on, when so many bytes were used.
pub(crate) fn give_back(bytes: u64) {
    if bytes <= LARGE_BYTES {
        return;
    }
    // Without a runtime the process ends.
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if SOON.swap(true, Ordering::AcqRel) {
        return;
    }
    let waiting = Waiting;
    runtime.spawn(async move {
        tokio::time::sleep(BETWEEN).await;
        // What is freed from here on is of the next time.
        drop(waiting);
        tokio::task::spawn_blocking(|| {
            let _giving = GIVING.lock().unwrap_or_else(PoisonError::into_inner);
            sandbox::give_back_memory();
        });
    });
}

/// Until it is dropped, also with a runtime that ends, the others need not ask.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        SOON.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_soon() -> bool {
        SOON.load(Ordering::Acquire)
    }

    #[test]
    fn memory_is_given_back_once_for_all_that_end_together_and_after_a_runtime_ended_too() {
        let of_one = |test: fn()| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async { test() });
        };
        of_one(|| {
            let small = Freed::default();
            small.add(1);
            drop(small);
            assert!(!is_soon());
            let large = Freed::default();
            large.add(1 << 30);
            assert!(!is_soon());
            drop(large);
            assert!(is_soon());
            give_back(u64::MAX);
            assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        });
        assert!(!is_soon());
        give_back(u64::MAX);
        assert!(!is_soon());
    }
}
