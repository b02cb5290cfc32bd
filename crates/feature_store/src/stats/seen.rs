//! The first pass over a table: counts, ranges and the most frequent values of each feature.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use serde_json::Value;

use super::FeatureStats;
use super::histogram::Bins;
use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::historical::{Columns, ViewUse};

/// How many different texts of a feature are counted.
const DISTINCT: usize = 1_000;
/// How many of the most frequent ones are told.
const TOP: usize = 10;

/// How a feature's values are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Number,
    /// Text and truth values: counted one by one.
    Words,
    Time,
    /// Lists and the like: only whether they are there.
    Other,
}

impl Kind {
    pub(super) fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Scalar(Scalar::Int32 | Scalar::Int64) => Self::Whole,
            Dtype::Scalar(Scalar::Double | Scalar::Float) => Self::Number,
            Dtype::Scalar(Scalar::String | Scalar::Bool) => Self::Words,
            Dtype::Scalar(Scalar::UnixTimestamp) => Self::Time,
            _ => Self::Other,
        }
    }

    pub(super) fn has_histogram(self) -> bool {
        matches!(self, Self::Whole | Self::Number)
    }
}

/// What is known of one feature so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    nulls: u64,
    not_finite: u64,
    finite: u64,
    sum: f64,
    pub(super) numbers: Option<(f64, f64)>,
    /// Whole numbers and times, to their last digit.
    whole: Option<(i64, i64)>,
    words: HashMap<String, u64>,
    /// More different ones than are counted.
    too_many: bool,
}

/// The first pass: all but the histograms.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    keys: Vec<String>,
    timestamp: String,
    columns: Vec<String>,
    kinds: Arc<[Kind]>,
    pub(super) rows: u64,
    pub(super) without_key: u64,
    pub(super) without_time: u64,
    pub(super) times: Option<(i64, i64)>,
    pub(super) seen: Vec<Seen>,
}

fn wider<T: PartialOrd + Copy>(range: &mut Option<(T, T)>, value: T) {
    *range = Some(match *range {
        None => (value, value),
        Some((min, max)) => (
            if value < min { value } else { min },
            if value > max { value } else { max },
        ),
    });
}

pub(super) fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, Error> {
    let found = batch.column_by_name(name);
    found.ok_or_else(|| arrow_schema::ArrowError::SchemaError(name.to_owned()).into())
}

impl Pass {
    pub(super) fn new(columns: &Columns, kinds: Arc<[Kind]>) -> Self {
        Self {
            keys: columns.keys.clone(),
            timestamp: columns.timestamp.clone(),
            columns: columns.features.clone(),
            seen: vec![Seen::default(); kinds.len()],
            kinds,
            rows: 0,
            without_key: 0,
            without_time: 0,
            times: None,
        }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows() as u64;
        let times = column(batch, &self.timestamp)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        self.without_time += times.null_count() as u64;
        for us in times.iter().flatten() {
            wider(&mut self.times, us);
        }
        let keys = self.keys.iter().map(|key| column(batch, key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let keyless = (0..batch.num_rows()).filter(|row| keys.iter().any(|k| k.is_null(*row)));
        self.without_key += keyless.count() as u64;
        for ((name, kind), seen) in self.columns.iter().zip(&*self.kinds).zip(&mut self.seen) {
            seen.push(*kind, column(batch, name)?)?;
        }
        Ok(())
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.rows += other.rows;
        self.without_key += other.without_key;
        self.without_time += other.without_time;
        if let Some((first, last)) = other.times {
            wider(&mut self.times, first);
            wider(&mut self.times, last);
        }
        for (ours, theirs) in self.seen.iter_mut().zip(other.seen) {
            ours.merge(theirs);
        }
        self
    }

    pub(super) fn told(self, used: &ViewUse, bins: Bins) -> Vec<FeatureStats> {
        let features = used.view.features.iter().zip(self.seen).zip(bins.bins);
        features
            .map(|((feature, seen), histogram)| {
                let (min, max) = seen.range(Kind::of(feature.dtype));
                let (top, distinct) = seen.top();
                let top_is_partial = seen.too_many;
                FeatureStats {
                    name: feature.name.clone(),
                    dtype: feature.dtype,
                    nulls: seen.nulls,
                    not_finite: seen.not_finite,
                    min,
                    max,
                    mean: (seen.finite > 0).then(|| seen.sum / seen.finite as f64),
                    histogram,
                    top,
                    top_is_partial,
                    distinct,
                }
            })
            .collect()
    }
}

impl Seen {
    fn push(&mut self, kind: Kind, column: &ArrayRef) -> Result<(), Error> {
        self.nulls += column.null_count() as u64;
        if matches!(kind, Kind::Whole | Kind::Time) {
            let whole = cast(column, &DataType::Int64)?;
            for value in whole.as_primitive::<Int64Type>().iter().flatten() {
                wider(&mut self.whole, value);
            }
        }
        if kind.has_histogram() {
            let numbers = cast(column, &DataType::Float64)?;
            for value in numbers.as_primitive::<Float64Type>().iter().flatten() {
                if value.is_finite() {
                    self.finite += 1;
                    self.sum += value;
                    wider(&mut self.numbers, value);
                } else {
                    self.not_finite += 1;
                }
            }
        }
        if kind == Kind::Words {
            let words = cast(column, &DataType::Utf8)?;
            for word in words.as_string::<i32>().iter().flatten() {
                self.count(word, 1);
            }
        }
        Ok(())
    }

    fn count(&mut self, word: &str, times: u64) {
        if let Some(count) = self.words.get_mut(word) {
            *count += times;
        } else if self.words.len() < DISTINCT {
            self.words.insert(word.to_owned(), times);
        } else {
            self.too_many = true;
        }
    }

    fn merge(&mut self, other: Self) {
        self.nulls += other.nulls;
        self.not_finite += other.not_finite;
        self.finite += other.finite;
        self.sum += other.sum;
        if let Some((min, max)) = other.numbers {
            wider(&mut self.numbers, min);
            wider(&mut self.numbers, max);
        }
        if let Some((min, max)) = other.whole {
            wider(&mut self.whole, min);
            wider(&mut self.whole, max);
        }
        self.too_many |= other.too_many;
        for (word, times) in other.words {
            self.count(&word, times);
        }
    }

    fn range(&self, kind: Kind) -> (Value, Value) {
        match (kind, self.whole, self.numbers) {
            (Kind::Whole, Some((min, max)), _) => (min.into(), max.into()),
            (Kind::Time, Some((min, max)), _) => {
                let time = |us| Value::from(crate::online::utc(us));
                (time(min), time(max))
            }
            (Kind::Number, _, Some((min, max))) => (min.into(), max.into()),
            _ => (Value::Null, Value::Null),
        }
    }

    fn top(&self) -> (Vec<(String, u64)>, Option<usize>) {
        let mut words: Vec<_> = self
            .words
            .iter()
            .map(|(word, n)| (word.clone(), *n))
            .collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        words.truncate(TOP);
        let distinct = (!self.too_many && !words.is_empty()).then_some(self.words.len());
        (words, distinct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_beyond_the_limit_are_not_kept() {
        let mut seen = Seen::default();
        for n in 0..2 * DISTINCT {
            seen.count(&n.to_string(), 1);
        }
        seen.count("0", 5);
        assert_eq!(seen.words.len(), DISTINCT);
        let (top, distinct) = seen.top();
        assert_eq!((top[0].clone(), distinct), (("0".to_owned(), 6), None));
    }
}
