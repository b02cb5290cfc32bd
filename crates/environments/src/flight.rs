//! One build per environment, however many ask for it, and none that nobody waits for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::environment::{Environment, Step};
use crate::error::Error;

/// Work that is under way, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<HashMap<String, Flight>>>,
}

#[derive(Debug)]
struct Flight {
    watched: watch::Receiver<State>,
    passengers: usize,
    work: AbortHandle,
}

#[derive(Debug, Clone, Default)]
struct State {
    step: Option<Step>,
    done: Option<Result<Environment, Arc<Error>>>,
}

/// Where work tells how far it is.
#[derive(Debug)]
pub(crate) struct Progress(watch::Sender<State>);

impl Progress {
    pub(crate) fn tell(&self, step: Step) {
        self.0.send_modify(|state| state.step = Some(step));
    }
}

/// A caller that waits for work; the last one to leave ends it.
struct Passenger<'f> {
    flights: &'f Flights,
    key: &'f str,
    watched: watch::Receiver<State>,
}

impl Flights {
    /// Joins the work of `key`, starting `work` if there is none. It goes on as long as anybody
    /// waits for it: when the last caller leaves before the end, it is dropped where it stands.
    pub(crate) async fn join<W, F>(
        &self,
        key: &str,
        progress: &(dyn Fn(Step) + Send + Sync),
        work: W,
    ) -> Result<Environment, Error>
    where
        W: FnOnce(Arc<Progress>) -> F,
        F: Future<Output = Result<Environment, Error>> + Send + 'static,
    {
        let mut passenger = Passenger {
            flights: self,
            key,
            watched: self.board(key, work),
        };
        let watched = &mut passenger.watched;
        loop {
            let state = watched.borrow_and_update().clone();
            if let Some(step) = state.step {
                progress(step);
            }
            if let Some(done) = state.done {
                return done.map_err(Error::Shared);
            }
            if watched.changed().await.is_err() {
                return Err(Error::stopping());
            }
        }
    }

    fn board<W, F>(&self, key: &str, work: W) -> watch::Receiver<State>
    where
        W: FnOnce(Arc<Progress>) -> F,
        F: Future<Output = Result<Environment, Error>> + Send + 'static,
    {
        let mut under_way = self.lock();
        if let Some(flight) = under_way.get_mut(key) {
            // Ended, or its runtime is gone: work anew.
            let going_on =
                flight.watched.has_changed().is_ok() && flight.watched.borrow().done.is_none();
            if going_on {
                flight.passengers += 1;
                return flight.watched.clone();
            }
        }
        let (tell, watched) = watch::channel(State::default());
        let progress = Arc::new(Progress(tell));
        let work = work(Arc::clone(&progress));
        let flights = self.clone();
        let (owned_key, own) = (key.to_owned(), watched.clone());
        let task = tokio::spawn(async move {
            let done = work.await.map_err(Arc::new);
            flights.remove(&owned_key, &own);
            progress.0.send_modify(|state| state.done = Some(done));
        });
        let flight = Flight {
            watched: watched.clone(),
            passengers: 1,
            work: task.abort_handle(),
        };
        under_way.insert(key.to_owned(), flight);
        watched
    }

    /// Forgets work that has ended, unless other work of its key began since.
    fn remove(&self, key: &str, watched: &watch::Receiver<State>) {
        let mut under_way = self.lock();
        if under_way
            .get(key)
            .is_some_and(|flight| flight.watched.same_channel(watched))
        {
            under_way.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passenger<'_> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        let Some(flight) = under_way.get_mut(self.key) else {
            return;
        };
        if !flight.watched.same_channel(&self.watched) {
            return;
        }
        flight.passengers -= 1;
        if flight.passengers == 0 {
            flight.work.abort();
            under_way.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    type Work = Pin<Box<dyn Future<Output = Result<Environment, Error>> + Send>>;

    /// Work that never ends by itself; the receiver hears of its end.
    fn endless() -> (impl FnOnce(Arc<Progress>) -> Work, oneshot::Receiver<()>) {
        let (held, ended) = oneshot::channel::<()>();
        let work = move |progress: Arc<Progress>| -> Work {
            Box::pin(async move {
                let _held = held;
                progress.tell(Step::Resolving);
                std::future::pending().await
            })
        };
        (work, ended)
    }

    #[tokio::test]
    async fn work_ends_with_the_last_who_waits_for_it() {
        let flights = Flights::default();
        let (work, mut ended) = endless();
        let first = {
            let flights = flights.clone();
            tokio::spawn(async move { flights.join("k", &|_| {}, work).await })
        };
        let (boarded, heard) = oneshot::channel::<()>();
        let boarded = Mutex::new(Some(boarded));
        let second = {
            let flights = flights.clone();
            tokio::spawn(async move {
                let said = |_| drop(boarded.lock().map(|mut b| b.take()));
                flights.join("k", &said, endless().0).await
            })
        };
        // The sender is dropped when the second hears of the first one's work.
        assert!(timeout(LONG, heard).await.unwrap().is_err());
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(
            ended
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(timeout(LONG, ended).await.unwrap().is_err());
        assert!(flights.lock().is_empty());
    }
}
