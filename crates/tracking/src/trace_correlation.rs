//! How much two conditions on traces go together: normalized pointwise mutual information, from
//! -1 (never together) over 0 (by chance) to 1 (always together).

use crate::Tracking;
use crate::error::Error;
use crate::search::traces::{Plan, TraceSearch};
use crate::store::search_traces;
use crate::trace::search_failed;

/// What is added to each count against small numbers (Jeffreys' prior).
const PRIOR: f64 = 0.5;

/// Which traces are asked about, and the two filters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    pub(crate) experiment_ids: Vec<String>,
    pub(crate) first: String,
    pub(crate) second: String,
    /// A filter that all traces fit; empty: all of the experiments.
    pub(crate) base: String,
}

/// How many traces fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) first: i64,
    pub(crate) second: i64,
    pub(crate) both: i64,
    pub(crate) all: i64,
}

impl Counts {
    /// Absent where one of the filters finds nothing.
    pub(crate) fn npmi(&self) -> Option<f64> {
        match self.both {
            0 if self.first > 0 && self.second > 0 => Some(-1.0),
            _ => self.with_prior(0.0),
        }
    }

    /// The same with a prior, for small numbers.
    pub(crate) fn smoothed_npmi(&self) -> Option<f64> {
        self.with_prior(PRIOR)
    }

    #[expect(clippy::cast_precision_loss, reason = "no store holds 2^53 traces")]
    fn with_prior(&self, prior: f64) -> Option<f64> {
        let only = [self.first - self.both, self.second - self.both];
        let neither = self.all - self.first - self.second + self.both;
        // Counts of different moments may not fit together.
        if self.first == 0 || self.second == 0 || only[0].min(only[1]).min(neither) < 0 {
            return None;
        }
        if only == [0, 0] && neither == 0 {
            return Some(1.0);
        }
        let both = self.both as f64 + prior;
        let first = both + only[0] as f64 + prior;
        let second = both + only[1] as f64 + prior;
        let all = first + only[1] as f64 + prior + neither as f64 + prior;
        if both <= 0.0 {
            return None;
        }
        let information = (both.ln() + all.ln()) - (first.ln() + second.ln());
        Some((information / (all.ln() - both.ln())).clamp(-1.0, 1.0))
    }
}

impl Tracking {
    /// Counts the traces that fit the filters.
    pub(crate) async fn correlate_traces(&self, question: Question) -> Result<Counts, Error> {
        let plan = |filter: &str| -> Result<Plan, Error> {
            let search = TraceSearch {
                experiment_ids: question.experiment_ids.clone(),
                filter: filter.to_owned(),
                ..TraceSearch::default()
            };
            search.plan()
        };
        let base = plan(&question.base)?;
        let within = |filter: &str| match question.base.is_empty() {
            true => plan(filter),
            false => plan(&format!("{} AND {filter}", question.base)),
        };
        let (first, second) = (within(&question.first)?, within(&question.second)?);
        if [&base, &first, &second]
            .iter()
            .any(|plan| plan.reads_spans())
        {
            self.add_span_texts().await?;
        }
        let experiments = &base.experiments;
        let both: Vec<_> = first.conditions.iter().chain(&second.conditions).collect();
        let mut conn = self.db.acquire().await?;
        let mut counted = [0; 4];
        let conditions = [
            first.conditions.iter().collect(),
            second.conditions.iter().collect(),
            both,
            base.conditions.iter().collect::<Vec<_>>(),
        ];
        for (count, conditions) in counted.iter_mut().zip(conditions) {
            let found = search_traces::count(&mut conn, experiments, &conditions).await;
            *count = found.map_err(search_failed)?;
        }
        let [first, second, both, all] = counted;
        Ok(Counts {
            first,
            second,
            both,
            all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(both: i64, first: i64, second: i64, all: i64) -> Counts {
        Counts {
            first,
            second,
            both,
            all,
        }
    }

    #[test]
    fn it_is_as_mlflow_computes_it() {
        // What MLflow 3.17 gives for the same counts.
        for (counts, npmi, smoothed) in [
            (
                counts(10, 20, 15, 100),
                Some(0.522_878_745_280_337_6),
                Some(0.509_868_999),
            ),
            (counts(5, 5, 5, 5), Some(1.0), Some(1.0)),
            (counts(0, 3, 4, 10), Some(-1.0), Some(-0.378_839_651)),
            (counts(0, 0, 4, 10), None, None),
            (counts(1, 1, 1, 0), None, None),
        ] {
            let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-3,
                (a, b) => a == b,
            };
            assert!(near(counts.npmi(), npmi), "{counts:?} {:?}", counts.npmi());
            let told = counts.smoothed_npmi();
            assert!(near(told, smoothed), "{counts:?} {told:?}");
        }
    }
}
