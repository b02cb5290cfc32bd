//! Histories of metrics: whole, and sampled for charts.

use std::collections::BTreeSet;

use crate::Tracking;
use crate::error::Error;
use crate::page::{self, Page};
use crate::store::metrics::{self, From, Point};
use crate::store::{Ids, runs};

/// The most runs of one request (`MAX_RUNS_GET_METRIC_HISTORY_BULK`).
pub(crate) const MAX_RUNS: usize = 100;

/// The most points of one run in a chart (`MAX_RESULTS_PER_RUN`).
pub(crate) const MAX_POINTS_PER_RUN: i64 = 2_500;

/// The most points of an answer about many runs.
pub(crate) const MAX_POINTS: i64 = 25_000;

/// Points held at once: a longer answer is read and written piece by piece.
pub(crate) const PIECE: i64 = 10_000;

/// The points of one run.
pub(crate) type RunPoints = (String, Vec<Point>);

/// A history that is being read, piece by piece; a connection is taken for each.
pub(crate) struct HistoryReader {
    tracking: Tracking,
    /// The run's number; a run that nobody knows has no points.
    run: Option<i64>,
    key: String,
    from: From,
    /// How many points came before.
    offset: i64,
    /// How many may still come.
    left: i64,
    /// The next page's token, known when the last piece was read.
    pub(crate) token: Option<String>,
}

impl HistoryReader {
    /// Whether all of the page has been read.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The next points, in the order of timestamp, step and value. Points that are logged
    /// meanwhile are among them if they belong behind those that were read.
    pub(crate) async fn next(&mut self) -> Result<Vec<Point>, Error> {
        let Some(run) = self.run else {
            self.left = 0;
            return Ok(Vec::new());
        };
        let wanted = self.left.min(PIECE);
        let mut conn = self.tracking.db.acquire().await?;
        // One more tells whether another follows.
        let read = metrics::history(&mut conn, run, &self.key, self.from, wanted + 1).await;
        let mut points = read?;
        let more = points.len() as i64 > wanted;
        points.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.offset = self.offset.saturating_add(points.len() as i64);
        self.left = if more { self.left - wanted } else { 0 };
        self.token = None;
        if let Some(last) = points.last() {
            self.from = From::Point(*last);
            let after = [last.timestamp, last.step, last.bits];
            self.token = more.then(|| page::token_after(self.offset, after));
        }
        Ok(points)
    }
}

impl Tracking {
    /// A page of one metric of a run. Unknown runs and keys have no points.
    pub(crate) async fn metric_history(
        &self,
        run_id: &str,
        key: String,
        page_token: Option<&str>,
        limit: i64,
    ) -> Result<HistoryReader, Error> {
        let Page { offset, limit } = Page::new(page_token, limit)?;
        let from = match page::after(page_token) {
            Some([timestamp, step, bits]) => From::Point(Point {
                timestamp,
                step,
                bits,
            }),
            None => From::Offset(offset),
        };
        let mut conn = self.db.acquire().await?;
        let run = runs::find(&mut conn, run_id).await?;
        Ok(HistoryReader {
            tracking: self.clone(),
            run: run.map(|run| run.row),
            key,
            from,
            offset,
            left: limit,
            token: None,
        })
    }

    /// The points of one metric of many runs, at most `limit` of them.
    pub(crate) async fn metric_histories(
        &self,
        run_ids: &[String],
        key: &str,
        limit: i64,
    ) -> Result<Vec<RunPoints>, Error> {
        let run_ids: BTreeSet<&String> = run_ids.iter().collect();
        let mut left = limit.clamp(0, MAX_POINTS);
        let mut conn = self.db.acquire().await?;
        let mut histories = Vec::new();
        for run_id in run_ids {
            if left == 0 {
                break;
            }
            let Some(run) = runs::find(&mut conn, run_id).await? else {
                continue;
            };
            let begin = From::Offset(0);
            let points = metrics::history(&mut conn, run.row, key, begin, left).await?;
            left -= points.len() as i64;
            histories.push((run_id.clone(), points));
        }
        Ok(histories)
    }

    /// The points of one metric of many runs, sampled evenly: of each run at most `max_points`, its
    /// last one among them, and its first one unless there is room for one only.
    pub(crate) async fn sampled_histories(
        &self,
        run_ids: &[String],
        key: &str,
        steps: Option<(i64, i64)>,
        max_points: i64,
    ) -> Result<Vec<RunPoints>, Error> {
        let steps = steps.unwrap_or((i64::MIN, i64::MAX));
        let mut conn = self.db.acquire().await?;
        let found = runs::list(&mut conn, run_ids).await?;
        let rows = Ids::of(found.iter().map(|run| run.row));
        let counts = metrics::counts(&mut conn, &rows, key, steps).await?;
        let mut histories = Vec::new();
        for run_id in run_ids {
            let Some(run) = found.iter().find(|run| run.run_id == *run_id) else {
                continue;
            };
            let Some(all) = counts.get(&run.row) else {
                histories.push((run_id.clone(), Vec::new()));
                continue;
            };
            let places = Ids::of(sample(*all, max_points));
            let points = metrics::at_places(&mut conn, run.row, key, steps, &places).await?;
            histories.push((run_id.clone(), points));
        }
        Ok(histories)
    }
}

/// Chooses places of `1..=all` evenly: the first of each of so many parts, and the last of all
/// (`_sample_rows_with_window_functions` of MLflow's `sqlalchemy_store.py`).
fn sample(all: i64, max_points: i64) -> Vec<i64> {
    let parts = max_points.min(all).max(1);
    let (size, larger) = (all / parts, all % parts);
    let mut places: Vec<i64> = (0..parts)
        .map(|part| part * size + part.min(larger) + 1)
        .collect();
    if let Some(last) = places.last_mut() {
        *last = all;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sampled_evenly_with_both_ends() {
        assert_eq!(sample(10, 5), [1, 3, 5, 7, 10]);
        assert_eq!(sample(11, 4), [1, 4, 7, 11]);
        assert_eq!(sample(3, 5), [1, 2, 3]);
        assert_eq!(sample(7, 1), [7]);
        assert_eq!(sample(1_000_000, 2), [1, 1_000_000]);
    }
}
