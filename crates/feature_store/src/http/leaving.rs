//! Answers on their way: one that its client does not fetch leaves no rows in memory.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::FeatureStore;

/// How long the next part of an answer may wait for its client.
const FETCH_TIME: Duration = Duration::from_secs(300);

type Parts<T, E> = BoxStream<'static, Result<T, E>>;

/// What the task that makes an answer tells the one that sends it.
enum Next<T, E> {
    Part(Result<T, E>),
    End,
}

/// An answer, made by a task of its own that does not wait for ever; `given_up` is the error for a
/// client that it did not wait for. A server that stops lets it be fetched for as long as it lets
/// connections go on: the task ends with them.
pub(super) fn leaving<T: Send + 'static, E: Send + 'static>(
    store: &FeatureStore,
    parts: Parts<T, E>,
    given_up: fn(String) -> E,
) -> Parts<T, E> {
    let (to, from) = mpsc::channel(1);
    store.tasks.spawn(make(parts, to, FETCH_TIME));
    fetched(from, given_up)
}

async fn make<T, E>(mut parts: Parts<T, E>, to: mpsc::Sender<Next<T, E>>, fetch_time: Duration) {
    loop {
        let next = match parts.next().await {
            Some(part) => Next::Part(part),
            None => Next::End,
        };
        let ends = matches!(next, Next::End);
        // Nobody fetches it any more, or nobody does in time.
        let sent = timeout(fetch_time, to.send(next)).await;
        if ends || !matches!(sent, Ok(Ok(()))) {
            return;
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

    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::{Config, MIGRATIONS};

    #[tokio::test]
    async fn an_answer_that_is_fetched_comes_whole_though_the_server_stops() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let three = stream::iter([0, 1, 2]).map(Ok::<_, String>).boxed();
        let answer = leaving(&store, three, |why| why);
        store.stop.cancel();
        assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap(), [0, 1, 2]);
        store.tasks.close();
        store.tasks.wait().await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_fetches_is_dropped_and_its_client_told() {
        let rows = Arc::new(());
        let kept = rows.clone();
        let parts = stream::repeat_with(move || {
            let _kept = &kept;
            Ok::<_, String>(1)
        });
        let (to, from) = mpsc::channel(1);
        make(parts.boxed(), to, Duration::from_millis(10)).await;
        assert_eq!(Arc::strong_count(&rows), 1);
        let mut answer = fetched(from, |why| why);
        assert!(answer.try_next().await.unwrap().is_some());
        let late = answer.try_next().await.unwrap_err();
        assert!(late.contains("ask again"), "{late}");
        assert!(answer.try_next().await.unwrap().is_none());
        // One that is fetched comes whole.
        let (to, from) = mpsc::channel(1);
        let three = stream::iter([0, 1, 2]).map(Ok::<_, String>);
        let made = make(three.boxed(), to, Duration::from_secs(60));
        let fetched = fetched(from, |why| why);
        let (all, ()) = tokio::join!(fetched.try_collect::<Vec<_>>(), made);
        assert_eq!(all.unwrap().len(), 3);
    }
}
