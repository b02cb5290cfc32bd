//! One build per environment, however many ask for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::environment::{Environment, Step};
use crate::error::Error;

/// Work that is under way, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<State>>>>,
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

impl Flights {
    /// Joins the work of `key`, starting `work` if there is none. The work goes on when callers
    /// leave: what it makes is kept, and the next to ask finds it.
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
        let mut watched = self.board(key, work);
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
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = under_way.get(key) {
            // Ended, or its runtime is gone: work anew.
            let going_on = watched.has_changed().is_ok() && watched.borrow().done.is_none();
            if going_on {
                return watched.clone();
            }
        }
        let (tell, watched) = watch::channel(State::default());
        let progress = Arc::new(Progress(tell));
        let work = work(Arc::clone(&progress));
        let flights = self.clone();
        let owned_key = key.to_owned();
        tokio::spawn(async move {
            let done = work.await.map_err(Arc::new);
            flights
                .under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&owned_key);
            progress.0.send_modify(|state| state.done = Some(done));
        });
        under_way.insert(key.to_owned(), watched.clone());
        watched
    }
}
