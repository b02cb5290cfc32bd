//! What searches look at in a span. Spans that came before searches did get it beside the requests, a
//! few at a time; a search meanwhile sees to those that may belong to its answer.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Tracking;
use crate::error::Error;
use crate::search::traces::Plan;
use crate::store::{search_traces, spans};
use crate::trace::search_failed;

/// How long to wait after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How long the work beside the requests rests after each lot.
const REST: Duration = Duration::from_millis(20);

/// The most traces that a search sees to at once.
const MOST: i64 = 10_000;

impl Tracking {
    /// Writes into old spans what searches look at, until all have it or `shutdown`.
    pub async fn work(self, shutdown: CancellationToken) {
        if self.external.is_some() {
            return;
        }
        let writing = async {
            while let Err(error) = self.add_all(REST).await {
                tracing::warn!(%error, "writing what searches look at in old spans failed");
                sleep(AFTER_FAILURE).await;
            }
        };
        shutdown.run_until_cancelled(writing).await;
    }

    /// Writes what searches look at into all spans that lack it.
    pub(crate) async fn add_span_texts(&self) -> Result<(), Error> {
        self.add_all(Duration::ZERO).await
    }

    /// Each lot is kept, so that what ends in the middle goes on from there.
    async fn add_all(&self, rest: Duration) -> Result<(), Error> {
        let mut conn = self.db.acquire().await?;
        let mut lacking = spans::lack_texts(&mut conn).await?;
        drop(conn);
        while lacking {
            let mut tx = self.db.begin().await?;
            lacking = spans::add_texts(&mut tx, None).await?;
            tx.commit().await?;
            if lacking && !rest.is_zero() {
                sleep(rest).await;
            }
        }
        Ok(())
    }

    /// The same for those spans on which the page that a search asks for hangs: of the traces that
    /// stand before its end, if every span that lacks its text fits.
    pub(crate) async fn add_span_texts_for(&self, plan: &Plan) -> Result<(), Error> {
        let needed = plan.page.offset.saturating_add(plan.page.lookahead());
        let mut count = needed;
        loop {
            let mut conn = self.db.acquire().await?;
            if !spans::lack_texts(&mut conn).await? {
                return Ok(());
            }
            let candidates = search_traces::candidates(&mut conn, plan, count).await;
            let candidates = candidates.map_err(search_failed)?;
            let lacking = spans::of_those_without_texts(&mut conn, &candidates).await?;
            drop(conn);
            let page = candidates
                .iter()
                .take(usize::try_from(needed).unwrap_or(usize::MAX));
            let known: HashSet<&String> = lacking.iter().collect();
            if !page.into_iter().any(|trace_id| known.contains(trace_id)) {
                return Ok(());
            }
            let mut left = true;
            while left {
                let mut tx = self.db.begin().await?;
                left = spans::add_texts(&mut tx, Some(&lacking)).await?;
                tx.commit().await?;
            }
            // Few that fit among many that do not: the next look is at more of them, and the last at all.
            if count > MOST {
                return self.add_span_texts().await;
            }
            count = count.saturating_mul(2);
        }
    }
}
