//! Work of the processors alone, spread over all of them.

use std::sync::{Arc, LazyLock};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::error::Error;

/// The processors of this machine, which all calls share: more work at once than they can do needs
/// more memory and ends no sooner.
static CORES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(processors()));

/// How many processors there are.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for each number below `count`, as many at once as there are processors and on none of
/// the threads that answer requests; gives what it made, in order. After an error, and when nobody
/// waits any more, no further number is begun.
///
/// # Errors
/// The first one of `work`.
pub(crate) async fn on_all_cores<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Send + Sync + 'static,
) -> Result<Vec<T>, Error> {
    let work = Arc::new(work);
    let each = (0..count).map(|number| {
        let work = work.clone();
        async move {
            let core = CORES.acquire().await.expect("it is never closed");
            let made = tokio::task::spawn_blocking(move || {
                // Until the work ends, whether somebody waits for it or not.
                let _core = core;
                work(number)
            });
            Ok::<_, Error>((number, ended(made.await)??))
        }
    });
    // Whichever ends first: a long one does not hold up the others.
    let made = stream::iter(each).buffer_unordered(processors());
    let mut all: Vec<(usize, T)> = made.try_collect().await?;
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

/// What a task made; a panic goes on here.
///
/// # Errors
/// When it was cancelled: the server stops.
pub(crate) fn ended<T>(ended: Result<T, JoinError>) -> Result<T, Error> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Later {
            what: "the server stops".to_owned(),
            help: "ask again when it is back",
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError, mpsc};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_made_on_all_cores_comes_in_order() {
        let made = on_all_cores(100, |number| Ok(number * 2)).await.unwrap();
        assert_eq!(made, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(on_all_cores(0, Ok).await.unwrap().is_empty());
        let refuse = |number| match number {
            7 => Err(Error::Invalid("seven".to_owned())),
            other => Ok(other),
        };
        assert!(on_all_cores(10, refuse).await.is_err());
    }

    /// Waits until what is asked is so.
    async fn until(so: impl Fn() -> bool) {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_begins_nothing_new() {
        let begun = Arc::new(AtomicUsize::new(0));
        let (gate, closed) = mpsc::channel::<()>();
        let closed = Mutex::new(closed);
        let counting = begun.clone();
        let work = on_all_cores(1_000, move |_| {
            counting.fetch_add(1, Ordering::Relaxed);
            // Until the gate is dropped.
            let closed = closed.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = closed.recv();
            Ok(())
        });
        tokio::select! {
            _ = work => unreachable!("the gate is closed"),
            () = until(|| begun.load(Ordering::Relaxed) > 0) => {}
        }
        drop(gate);
        // The work itself is dropped with the last that was begun.
        until(|| Arc::strong_count(&begun) == 1).await;
        assert!(begun.load(Ordering::Relaxed) <= processors());
    }

    #[tokio::test]
    async fn work_that_failed_begins_nothing_new() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counting = begun.clone();
        let failed = on_all_cores(1_000, move |number| {
            counting.fetch_add(1, Ordering::Relaxed);
            match number {
                0 => Err(Error::Invalid("none".to_owned())),
                _ => {
                    std::thread::sleep(Duration::from_millis(5));
                    Ok(())
                }
            }
        });
        assert!(failed.await.is_err());
        until(|| Arc::strong_count(&begun) == 1).await;
        assert!(begun.load(Ordering::Relaxed) < 1_000);
    }

    #[tokio::test]
    async fn a_task_that_is_cancelled_is_no_panic() {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        let stopped = ended(task.await).unwrap_err();
        assert_eq!(stopped.code(), web::Code::Unavailable);
    }
}
