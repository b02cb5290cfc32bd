//! Answers on their way: one whose client is slow leaves no rows in memory.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::spool::{Part, Spool, Spools};
use crate::FeatureStore;

/// How long the next part of an answer may wait for its client.
const FETCH_TIME: Duration = Duration::from_secs(300);

/// A client for which a part waits so long is slow: the rest of its answer is made at once and waits
/// on the disk, so that others have the memory.
const PATIENCE: Duration = Duration::from_secs(1);

type Parts<T, E> = BoxStream<'static, Result<T, E>>;

/// What the task that makes an answer tells the one that sends it.
enum Next<T, E> {
    Part(Result<T, E>),
    End,
}

#[derive(Clone, Copy)]
struct Times {
    patience: Duration,
    fetch: Duration,
}

/// An answer, made by a task of its own that does not wait for ever; `given_up` is the error for a
/// client that it did not wait for. A server that stops lets it be fetched for as long as it lets
/// connections go on: the task ends with them.
pub(super) fn leaving<T: Part, E: Send + Sync + 'static>(
    store: &FeatureStore,
    parts: Parts<T, E>,
    given_up: fn(String) -> E,
) -> Parts<T, E> {
    let (to, from) = mpsc::channel(1);
    let (spools, times) = (store.spools.clone(), Times::default());
    store.tasks.spawn(async move {
        make(parts, to, &spools, times).await;
    });
    fetched(from, given_up)
}

impl Default for Times {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            fetch: FETCH_TIME,
        }
    }
}

/// Makes an answer; none when nobody fetches it any more, or not in time.
async fn make<T: Part, E: Send + 'static>(
    mut parts: Parts<T, E>,
    to: mpsc::Sender<Next<T, E>>,
    spools: &Spools,
    times: Times,
) -> Option<()> {
    loop {
        let next = next_of(&mut parts).await;
        let ends = matches!(next, Next::End);
        let in_time = timeout(times.patience, to.reserve()).await;
        let permit = match in_time {
            Ok(permit) => permit,
            Err(_slow) => match spools.begin().await {
                Some(spool) => return aside(next, parts, &to, spool, times).await,
                None => timeout(times.fetch, to.reserve()).await.ok()?,
            },
        };
        permit.ok()?.send(next);
        if ends {
            return Some(());
        }
    }
}

async fn next_of<T, E>(parts: &mut Parts<T, E>) -> Next<T, E> {
    parts.next().await.map_or(Next::End, Next::Part)
}

/// Makes the rest of an answer as fast as it can be made, whatever its client does: what is not
/// fetched waits in the spool. What cannot wait there is waited with.
async fn aside<T: Part, E: Send + 'static>(
    first: Next<T, E>,
    mut parts: Parts<T, E>,
    to: &mpsc::Sender<Next<T, E>>,
    mut spool: Spool,
    times: Times,
) -> Option<()> {
    let mut left = keep(first, &mut parts, &mut spool).await;
    let mut until = Instant::now() + times.fetch;
    loop {
        let waits = !spool.is_empty() || left.is_some();
        tokio::select! {
            permit = timeout_at(until, to.reserve()), if waits => {
                let permit = permit.ok()?.ok()?;
                until = Instant::now() + times.fetch;
                let kept = spool.take().await.inspect_err(|error| {
                    tracing::warn!(%error, "an answer that waited for its client cannot be read again");
                });
                if let Some(part) = kept.ok()? {
                    permit.send(Next::Part(Ok(part)));
                } else if let Some(next) = left.take() {
                    let ends = matches!(next, Next::End);
                    permit.send(next);
                    if ends {
                        return Some(());
                    }
                }
            }
            next = next_of(&mut parts), if left.is_none() => {
                left = keep(next, &mut parts, &mut spool).await;
                if !waits {
                    until = Instant::now() + times.fetch;
                }
            }
        }
    }
}

/// Puts a part into the spool, or gives it back. At the end nothing is held for the parts any more.
async fn keep<T: Part, E: Send + 'static>(
    next: Next<T, E>,
    parts: &mut Parts<T, E>,
    spool: &mut Spool,
) -> Option<Next<T, E>> {
    match &next {
        Next::Part(Ok(part)) if spool.put(part).await => None,
        Next::Part(Ok(_)) => Some(next),
        Next::Part(Err(_)) | Next::End => {
            *parts = stream::empty().boxed();
            Some(next)
        }
    }
}

fn fetched<T: Send + 'static, E: Send + 'static>(
    from: mpsc::Receiver<Next<T, E>>,
    given_up: fn(String) -> E,
) -> Parts<T, E> {
    let next = move |from: Option<mpsc::Receiver<Next<T, E>>>| async move {
        let mut from = from?;
        match from.recv().await {
            Some(Next::Part(part)) => Some((part, Some(from))),
            Some(Next::End) => None,
            // The task has given up.
            None => {
                let why = format!(
                    "the answer is dropped: a part of it was not fetched within {} seconds; ask again",
                    FETCH_TIME.as_secs()
                );
                Some((Err(given_up(why)), None))
            }
        }
    };
    stream::unfold(Some(from), next).boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Bytes;
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::{Config, MIGRATIONS};

    fn times(patience_ms: u64, fetch_ms: u64) -> Times {
        Times {
            patience: Duration::from_millis(patience_ms),
            fetch: Duration::from_millis(fetch_ms),
        }
    }

    fn numbered(count: u8) -> impl futures_util::Stream<Item = Result<Bytes, String>> + Send {
        stream::iter((0..count).map(|n| Ok(Bytes::from(vec![n; 1 + usize::from(n)]))))
    }

    #[tokio::test]
    async fn an_answer_that_is_fetched_comes_whole_though_the_server_stops() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let answer = leaving(&store, numbered(3).boxed(), |why| why);
        store.stop.cancel();
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 3);
        store.tasks.close();
        store.tasks.wait().await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_fetches_is_dropped_and_its_client_told() {
        let rows = Arc::new(());
        let kept = rows.clone();
        let parts = stream::repeat_with(move || {
            let _kept = &kept;
            Ok::<_, String>(Bytes::from_static(b"1"))
        });
        let (to, from) = mpsc::channel(1);
        let nowhere = Spools::new("/proc/nowhere".into());
        make(parts.boxed(), to, &nowhere, times(1, 10)).await;
        assert_eq!(Arc::strong_count(&rows), 1);
        let mut answer = fetched(from, |why| why);
        assert!(answer.try_next().await.unwrap().is_some());
        let late = answer.try_next().await.unwrap_err();
        assert!(late.contains("ask again"), "{late}");
        assert!(answer.try_next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_slow_client_does_not_fetch_holds_no_rows_and_comes_whole_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::new(dir.path().to_owned()).leaving_free(0);
        // With a spool and, where none can be made, without.
        for spools in [spools, Spools::new("/proc/nowhere".into())] {
            let has_spool = spools.begin().await.is_some();
            let rows = Arc::new(());
            let held = rows.clone();
            let broken = stream::iter([Err("broken".to_owned())]);
            let parts = numbered(200).chain(broken).inspect(move |_| {
                let _held = &held;
            });
            let (to, from) = mpsc::channel(1);
            let made =
                tokio::spawn(
                    async move { make(parts.boxed(), to, &spools, times(1, 60_000)).await },
                );
            if has_spool {
                while Arc::strong_count(&rows) > 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                assert!(!made.is_finished());
            }
            let mut answer = fetched(from, |why| why);
            let expected: Vec<Bytes> = numbered(200).try_collect().await.unwrap();
            for part in expected {
                assert_eq!(answer.try_next().await.unwrap().unwrap(), part);
            }
            assert_eq!(answer.try_next().await.unwrap_err(), "broken");
            assert!(answer.try_next().await.unwrap().is_none());
            assert_eq!(made.await.unwrap(), Some(()));
        }
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_ends_an_answer_that_waits() {
        let dir = tempfile::tempdir().unwrap();
        let spools = Spools::new(dir.path().to_owned()).leaving_free(0);
        let (to, from) = mpsc::channel(1);
        let made = tokio::spawn(async move {
            make(numbered(200).boxed(), to, &spools, times(1, 60_000)).await
        });
        let mut answer = fetched(from, |why| why);
        assert!(answer.try_next().await.unwrap().is_some());
        drop(answer);
        assert_eq!(made.await.unwrap(), None);
    }
}
