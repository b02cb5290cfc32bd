//! Work of the processors alone, spread over all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::error::Error;

/// How many processors there are.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` for each number below `count`, as many at once as there are processors and on none of
/// the threads that answer requests; gives what it made, in order.
///
/// # Errors
/// The first one of `work`.
pub(crate) async fn on_all_cores<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Send + Sync + 'static,
) -> Result<Vec<T>, Error> {
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..processors().min(count) {
        let (work, next) = (work.clone(), next.clone());
        workers.spawn_blocking(move || {
            let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            let numbers = numbers.take_while(|number| *number < count);
            let made = numbers.map(|number| Ok((number, work(number)?)));
            made.collect::<Result<Vec<_>, Error>>()
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(made) => all.extend(made?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
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
}
