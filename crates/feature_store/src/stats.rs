//! What a view's table holds, feature by feature: how fresh, how complete, how spread. Two passes
//! over the table, in memory that does not grow with it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use serde_json::Value;

use crate::FeatureStore;
use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::historical::{Columns, Only, Scan, ViewUse};
use crate::registry::PROJECT;
use crate::table::{self, TableRef};

/// How many different texts of a feature are counted.
const DISTINCT: usize = 1_000;
/// How many of the most frequent ones are told.
const TOP: usize = 10;

/// The table behind a view.
#[derive(Debug, Clone)]
pub struct ViewStats {
    pub view: String,
    pub table: TableRef,
    pub snapshot_id: Option<i64>,
    /// When the snapshot was made, in epoch milliseconds.
    pub snapshot_at: Option<i64>,
    pub rows: u64,
    /// Rows that no entity finds: a join key is null.
    pub rows_without_key: u64,
    pub rows_without_time: u64,
    /// The times of the first and the last event, in epoch microseconds.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
    pub features: Vec<FeatureStats>,
    /// Entities in the online store.
    pub online_entities: usize,
    /// The snapshot that the online store was last loaded from.
    pub online_snapshot_id: Option<i64>,
}

/// The values of one feature.
#[derive(Debug, Clone)]
pub struct FeatureStats {
    pub name: String,
    pub dtype: Dtype,
    pub nulls: u64,
    /// Floats that are NaN or infinite; they count for nothing else.
    pub not_finite: u64,
    pub min: Value,
    pub max: Value,
    pub mean: Option<f64>,
    pub histogram: Option<Histogram>,
    /// The most frequent texts or truth values.
    pub top: Vec<(String, u64)>,
    /// Whether there are more different ones than are counted, so that a frequent one may be missing.
    pub top_is_partial: bool,
    /// How many different ones there are, unless they are too many to count.
    pub distinct: Option<usize>,
}

/// Counts of values between edges; the last bin holds its upper edge too.
#[derive(Debug, Clone)]
pub struct Histogram {
    pub edges: Vec<f64>,
    pub counts: Vec<u64>,
}

impl FeatureStore {
    /// Looks at all rows of a view's table, at its newest snapshot or at another.
    ///
    /// # Errors
    /// When the view is not there, or its table cannot be read.
    pub async fn stats(
        &self,
        name: &str,
        snapshot: Option<i64>,
        bins: usize,
    ) -> Result<ViewStats, Error> {
        let view = self.feature_view(PROJECT, name).await?;
        let mut used = ViewUse::new(view, name.to_owned());
        used.features = used.view.features.iter().map(|f| f.name.clone()).collect();
        let table_name = used.view.table()?;
        let table = self.catalogs.table(table_name).await?;
        let columns = Columns::find(&used, table_name, &table::columns(&table))?;
        let snapshot = snapshot.or(table.metadata().current_snapshot_id());
        let kinds: Arc<[Kind]> = used
            .view
            .features
            .iter()
            .map(|f| Kind::of(f.dtype))
            .collect();
        let scan = || async {
            let only = Only {
                snapshot,
                files: None,
            };
            Scan::plan(table_name, &table, &columns.all(), None, only).await
        };
        let first = Pass::new(&columns, kinds.clone());
        let each = |pass: &mut Pass, batch: RecordBatch, _| pass.push(&batch);
        let new = {
            let first = first.clone();
            move || first.clone()
        };
        let passes = scan().await?.in_parallel(new, each).await?;
        let whole = passes.into_iter().fold(first, Pass::merge);
        let bins = Bins::new(&whole, &columns, kinds, bins);
        let bins = if bins.is_empty() {
            bins
        } else {
            let each = |bins: &mut Bins, batch: RecordBatch, _| bins.push(&batch);
            let new = {
                let bins = bins.clone();
                move || bins.clone()
            };
            let parts = scan().await?.in_parallel(new, each).await?;
            parts.into_iter().fold(bins, Bins::merge)
        };
        let online = self.online.rows(PROJECT, name).await?;
        let about = online.about().clone();
        let bookmark = about.is_of(&used.view).then_some(about.bookmark).flatten();
        let found = snapshot.and_then(|id| table.metadata().snapshot_by_id(id));
        Ok(ViewStats {
            view: name.to_owned(),
            table: table_name.clone(),
            snapshot_id: snapshot,
            snapshot_at: found.map(|snapshot| snapshot.timestamp_ms()),
            rows: whole.rows,
            rows_without_key: whole.without_key,
            rows_without_time: whole.without_time,
            first_us: whole.times.map(|(first, _)| first),
            last_us: whole.times.map(|(_, last)| last),
            online_entities: self.online.count(&online, &used.view).await?,
            online_snapshot_id: bookmark.map(|bookmark| bookmark.snapshot_id),
            features: whole.told(&used, bins),
        })
    }
}

/// How a feature's values are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    /// Text and truth values: counted one by one.
    Words,
    Time,
    /// Lists and the like: only whether they are there.
    Other,
}

impl Kind {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Scalar(Scalar::Int32 | Scalar::Int64) => Self::Whole,
            Dtype::Scalar(Scalar::Double | Scalar::Float) => Self::Number,
            Dtype::Scalar(Scalar::String | Scalar::Bool) => Self::Words,
            Dtype::Scalar(Scalar::UnixTimestamp) => Self::Time,
            _ => Self::Other,
        }
    }

    fn has_histogram(self) -> bool {
        matches!(self, Self::Whole | Self::Number)
    }
}

/// What is known of one feature so far.
#[derive(Debug, Clone, Default)]
struct Seen {
    nulls: u64,
    not_finite: u64,
    finite: u64,
    sum: f64,
    numbers: Option<(f64, f64)>,
    /// Whole numbers and times, to their last digit.
    whole: Option<(i64, i64)>,
    words: HashMap<String, u64>,
    /// More different ones than are counted.
    too_many: bool,
}

/// The first pass: all but the histograms.
#[derive(Debug, Clone)]
struct Pass {
    keys: Vec<String>,
    timestamp: String,
    columns: Vec<String>,
    kinds: Arc<[Kind]>,
    rows: u64,
    without_key: u64,
    without_time: u64,
    times: Option<(i64, i64)>,
    seen: Vec<Seen>,
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

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, Error> {
    let found = batch.column_by_name(name);
    found.ok_or_else(|| arrow_schema::ArrowError::SchemaError(name.to_owned()).into())
}

impl Pass {
    fn new(columns: &Columns, kinds: Arc<[Kind]>) -> Self {
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

    fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
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

    fn merge(mut self, other: Self) -> Self {
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

    fn told(self, used: &ViewUse, bins: Bins) -> Vec<FeatureStats> {
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

/// The second pass: histograms between the smallest and the largest value of the first.
#[derive(Debug, Clone)]
struct Bins {
    columns: Vec<String>,
    bins: Vec<Option<Histogram>>,
}

impl Bins {
    fn new(pass: &Pass, columns: &Columns, kinds: Arc<[Kind]>, count: usize) -> Self {
        let bins = pass.seen.iter().zip(&*kinds).map(|(seen, kind)| {
            let (min, max) = seen.numbers.filter(|_| kind.has_histogram())?;
            Some(Histogram::between(min, max, count))
        });
        Self {
            columns: columns.features.clone(),
            bins: bins.collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.bins.iter().all(Option::is_none)
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        for (name, bins) in self.columns.iter().zip(&mut self.bins) {
            let Some(histogram) = bins else { continue };
            let numbers = cast(column(batch, name)?, &DataType::Float64)?;
            for value in numbers.as_primitive::<Float64Type>().iter().flatten() {
                histogram.add(value);
            }
        }
        Ok(())
    }

    fn merge(mut self, other: Self) -> Self {
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
