//! The second pass over a table: how many values lie in each bin.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_cast::cast;
use arrow_schema::DataType;

use super::seen::{Kind, Pass, column};
use crate::error::Error;
use crate::historical::Columns;

/// Counts of values between edges; the last bin holds its upper edge too.
#[derive(Debug, Clone)]
pub struct Histogram {
    pub edges: Vec<f64>,
    pub counts: Vec<u64>,
}

/// The second pass: histograms between the smallest and the largest value of the first.
#[derive(Debug, Clone)]
pub(super) struct Bins {
    columns: Vec<String>,
    pub(super) bins: Vec<Option<Histogram>>,
}

impl Bins {
    pub(super) fn new(pass: &Pass, columns: &Columns, kinds: Arc<[Kind]>, count: usize) -> Self {
        let bins = pass.seen.iter().zip(&*kinds).map(|(seen, kind)| {
            let (min, max) = seen.numbers.filter(|_| kind.has_histogram())?;
            Some(Histogram::between(min, max, count))
        });
        Self {
            columns: columns.features.clone(),
            bins: bins.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bins.iter().all(Option::is_none)
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for (name, bins) in self.columns.iter().zip(&mut self.bins) {
            let Some(histogram) = bins else { continue };
            let numbers = cast(column(batch, name)?, &DataType::Float64)?;
            for value in numbers.as_primitive::<Float64Type>().iter().flatten() {
                histogram.add(value);
            }
        }
        Ok(())
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        for (ours, theirs) in self.bins.iter_mut().zip(other.bins) {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                for (count, more) in ours.counts.iter_mut().zip(theirs.counts) {
                    *count += more;
                }
            }
        }
        self
    }
}

impl Histogram {
    fn between(min: f64, max: f64, count: usize) -> Self {
        let count = if min < max { count } else { 1 };
        // Halves, so that the distance of the largest numbers is one.
        let at = |edge: usize| {
            let part = edge as f64 / count as f64;
            min * (1.0 - part) + max * part
        };
        let mut edges: Vec<f64> = (0..=count).map(at).collect();
        edges[0] = min;
        edges[count] = max;
        Self {
            edges,
            counts: vec![0; count],
        }
    }

    fn add(&mut self, value: f64) {
        let last = self.counts.len() - 1;
        if value >= self.edges[0] && value <= self.edges[last + 1] {
            let above = self.edges.partition_point(|edge| *edge <= value);
            self.counts[above.saturating_sub(1).min(last)] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bin_and_the_largest_is_in_the_last() {
        let mut histogram = Histogram::between(0.0, 10.0, 5);
        for value in [0.0, 1.9, 2.0, 9.9, 10.0, 11.0, f64::NAN] {
            histogram.add(value);
        }
        assert_eq!(histogram.edges, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(histogram.counts, [2, 1, 0, 0, 2]);
        let mut one = Histogram::between(3.0, 3.0, 5);
        one.add(3.0);
        assert_eq!(one.counts, [1]);
        let wide = Histogram::between(f64::MIN, f64::MAX, 2);
        assert_eq!(wide.edges, [f64::MIN, 0.0, f64::MAX]);
    }
}
