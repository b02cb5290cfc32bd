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

    /// The points of one metric of many runs at sampled steps: the same steps for all runs, and
    /// each run's first and last one.
    pub(crate) async fn sampled_histories(
        &self,
        run_ids: &[String],
        key: &str,
        range: Option<(i64, i64)>,
        max_steps: usize,
    ) -> Result<Vec<RunPoints>, Error> {
        let mut conn = self.db.acquire().await?;
        let found = runs::list(&mut conn, run_ids).await?;
        let rows = Ids::of(found.iter().map(|run| run.row));
        let steps = metrics::steps(&mut conn, &rows, key).await?;
        let wanted = Ids::of(sample(&steps, range, max_steps));
        let mut histories = Vec::new();
        for run_id in run_ids {
            let Some(run) = found.iter().find(|run| run.run_id == *run_id) else {
                continue;
            };
            let points =
                metrics::at_steps(&mut conn, run.row, key, &wanted, MAX_POINTS_PER_RUN).await?;
            histories.push((run_id.clone(), points));
        }
        Ok(histories)
    }
}

/// Chooses steps evenly from those that there are, as `get_metric_history_bulk_interval` of
/// MLflow's `abstract_store.py` does. `steps` are pairs of a run's number and a step, in order.
fn sample(steps: &[(i64, i64)], range: Option<(i64, i64)>, max_steps: usize) -> BTreeSet<i64> {
    let all: BTreeSet<i64> = steps.iter().map(|(_, step)| *step).collect();
    let (start, end) = range.unwrap_or((0, all.last().copied().unwrap_or(0)));
    if start > end {
        return BTreeSet::new();
    }
    let within: Vec<i64> = all.range(start..=end).copied().collect();
    let max_steps = max_steps.max(1);
    if within.len() <= max_steps {
        return within.into_iter().collect();
    }
    let evenly = (0..max_steps).map(|i| within[i * within.len() / max_steps]);
    let mut chosen: BTreeSet<i64> = evenly.chain(within.last().copied()).collect();
    for run in steps.chunk_by(|a, b| a.0 == b.0) {
        let ends = [run.first(), run.last()].into_iter().flatten();
        let ends = ends.map(|(_, step)| *step);
        chosen.extend(ends.filter(|step| (start..=end).contains(step)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_sampled_evenly_with_the_ends_of_each_run() {
        let mut steps: Vec<(i64, i64)> = (0..100).map(|step| (1, step)).collect();
        steps.extend((7..=43).map(|step| (2, step)));
        let chosen = sample(&steps, None, 4);
        assert_eq!(
            chosen.into_iter().collect::<Vec<_>>(),
            [0, 7, 25, 43, 50, 75, 99]
        );
        let chosen = sample(&steps, Some((10, 12)), 4);
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [10, 11, 12]);
        assert!(sample(&[], None, 4).is_empty());
        assert!(sample(&steps, Some((5, 4)), 4).is_empty());
    }

    #[test]
    fn without_a_range_negative_steps_are_not_shown_as_in_mlflow() {
        assert_eq!(sample(&[(1, -5), (1, 0)], None, 10).len(), 1);
    }
}
