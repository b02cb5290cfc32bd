//! Metrics: points of a series, the latest of which stands for it.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::key;

/// A point of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub key: String,
    /// May be NaN; infinities are clamped to the greatest finite number when stored.
    pub value: f64,
    /// Epoch milliseconds.
    pub timestamp: i64,
    pub step: i64,
}

/// A point as it is logged: it may also belong to a logged model and tell of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedMetric {
    pub metric: Metric,
    pub model_id: Option<String>,
    pub dataset_name: Option<String>,
    pub dataset_digest: Option<String>,
}

impl Metric {
    /// The value as it is stored, and whether it stands for NaN: infinities are clamped, NaN is 0.
    pub(crate) fn stored(&self) -> (f64, bool) {
        if self.value.is_nan() {
            (0.0, true)
        } else {
            // Adding 0 makes -0 plain, so that equal points are the same row.
            (self.value.clamp(f64::MIN, f64::MAX) + 0.0, false)
        }
    }

    /// The value as one number that sorts as the values do, NaN last.
    pub(crate) fn value_bits(&self) -> i64 {
        turn(match self.stored() {
            (_, true) => f64::NAN.to_bits(),
            (value, false) => value.to_bits(),
        } as i64)
    }

    /// The value that [`value_bits`](Self::value_bits) wrote.
    pub(crate) fn read_bits(bits: i64) -> f64 {
        f64::from_bits(turn(bits) as u64)
    }

    /// What decides which point is the latest: step, then timestamp, then value.
    fn rank(&self) -> (i64, i64, f64) {
        (self.step, self.timestamp, self.stored().0)
    }
}

/// The bits of negative floats sort backwards: all but the sign are flipped, and back again.
fn turn(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// Checks the points of a request; `parameter` names the one at an index.
///
/// # Errors
/// [`Error::Field`] or [`Error::Invalid`] naming the point.
pub(crate) fn check(
    metrics: &[LoggedMetric],
    parameter: impl Fn(usize, &str) -> String,
) -> Result<(), Error> {
    for (index, logged) in metrics.iter().enumerate() {
        let metric = &logged.metric;
        key::check_named(&metric.key, || parameter(index, "name"))?;
        if metric.timestamp < 0 {
            return Err(Error::field(
                parameter(index, "timestamp"),
                metric.timestamp.to_string(),
                "Timestamp must be a nonnegative long (64-bit integer)",
            ));
        }
    }
    Ok(())
}

/// The latest point of each key.
pub(crate) fn latest<'m>(metrics: impl Iterator<Item = &'m Metric>) -> Vec<&'m Metric> {
    let mut latest = BTreeMap::<&str, &Metric>::new();
    for metric in metrics {
        let seen = latest.entry(&metric.key).or_insert(metric);
        if metric.rank() > seen.rank() {
            *seen = metric;
        }
    }
    latest.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: f64, timestamp: i64, step: i64) -> Metric {
        Metric {
            key: "a".to_owned(),
            value,
            timestamp,
            step,
        }
    }

    #[test]
    fn the_latest_is_the_greatest_by_step_then_time_then_value() {
        let points = [
            point(9.0, 5, 1),
            point(1.0, 1, 2),
            point(0.5, 9, 1),
            point(f64::NAN, 1, 2),
        ];
        assert_eq!(latest(points.iter()), [&points[1]]);
        let negative = [point(-1.0, 0, 0), point(f64::NAN, 0, 0)];
        assert!(latest(negative.iter())[0].value.is_nan());
    }

    #[test]
    fn bits_sort_as_values_do_and_read_back_the_same() {
        let values = [f64::MIN, -1.5, -5e-324, 0.0, 5e-324, 0.1, 1.0, f64::MAX];
        let bits = values.map(|value| point(value, 0, 0).value_bits());
        assert!(bits.is_sorted());
        assert_eq!(bits.map(Metric::read_bits), values);
        let nan = point(f64::NAN, 0, 0).value_bits();
        assert!(nan > bits[7] && Metric::read_bits(nan).is_nan());
        assert_eq!(
            point(-0.0, 0, 0).value_bits(),
            point(0.0, 0, 0).value_bits()
        );
    }

    #[test]
    fn infinities_are_clamped_and_nan_is_marked() {
        assert_eq!(point(f64::INFINITY, 0, 0).stored(), (f64::MAX, false));
        assert_eq!(point(f64::NEG_INFINITY, 0, 0).stored(), (f64::MIN, false));
        assert_eq!(point(f64::NAN, 0, 0).stored(), (0.0, true));
    }
}
