//! The arithmetic of each family of trees, step by step as the library does it, so that every bit
//! is the same.
//!
//! - scikit-learn: a value is rounded to 32 bits and compared, `<=`, with a 64-bit threshold; leaves
//!   are added in 64 bits in the order of the trees and divided by their number; the label is that
//!   of the first greatest class.
//! - XGBoost: 32 bits throughout, `<`; leaves are added to the start in the order of the trees; the
//!   logistic function is `1 / (exp(min(-m, 88.7)) + 1 + 1e-16)`.
//! - LightGBM: 64 bits throughout, `<=`; values within 1.0000000180025095e-35 of zero are zero, and
//!   so is NaN at nodes that saw none in training.

use crate::engine::numbers::{Family, Missing, Node, Numbers};
use crate::values::{Data, Values};
use crate::worker::Answer;

/// LightGBM's `kZeroThreshold`.
const NEARLY_ZERO: f64 = 1.000_000_018_002_509_5e-35;

impl Numbers {
    /// Answers for rows that lie one after the other.
    pub(crate) fn answer(&self, rows: &[f64], probabilities: bool) -> Answer {
        match self.head.family {
            Family::SklearnClassifier => self.mean_of_classes(rows, probabilities),
            Family::SklearnRegressor => numbers_only(self.each(rows, |row| {
                let sum = self.sum(row, |x| f64::from(x as f32), at_most);
                sum / self.roots.len() as f64
            })),
            Family::XgboostSum => numbers_only(self.each(rows, |row| f64::from(self.margin(row)))),
            Family::LightgbmSum => {
                numbers_only(self.each(rows, |row| self.sum(row, flattened, at_most)))
            }
            Family::XgboostLogistic => self.two_classes(
                self.each(rows, |row| f64::from(logistic(self.margin(row)))),
                |p| f64::from(1.0_f32 - p as f32),
                probabilities,
            ),
            Family::LightgbmLogistic => self.two_classes(
                self.each(rows, |row| {
                    1.0 / (1.0 + (-self.sum(row, flattened, at_most)).exp())
                }),
                |p| 1.0 - p,
                probabilities,
            ),
            Family::XgboostSoftmax => self.softmax(rows, probabilities),
        }
    }

    fn each(&self, rows: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        rows.chunks_exact(self.head.features).map(f).collect()
    }

    /// The leaf that a row ends in.
    fn leaf(
        &self,
        root: u32,
        row: &[f64],
        prepare: impl Fn(f64) -> f64,
        left: impl Fn(f64, f64) -> bool,
    ) -> usize {
        let mut at = root;
        loop {
            let node: &Node = &self.nodes[at as usize];
            if node.left == at {
                return at as usize;
            }
            let value = prepare(row[node.feature as usize]);
            let goes_left = if value.is_nan() {
                match node.missing {
                    Missing::Left => true,
                    Missing::Right => false,
                    Missing::Zero => left(0.0, node.threshold),
                }
            } else {
                left(value, node.threshold)
            };
            at = if goes_left { node.left } else { node.right };
        }
    }

    fn sum(
        &self,
        row: &[f64],
        prepare: impl Fn(f64) -> f64 + Copy,
        left: impl Fn(f64, f64) -> bool + Copy,
    ) -> f64 {
        let leaves = self
            .roots
            .iter()
            .map(|root| self.leaf(*root, row, prepare, left));
        leaves.fold(0.0, |sum, leaf| sum + self.values[leaf])
    }

    fn mean_of_classes(&self, rows: &[f64], probabilities: bool) -> Answer {
        let width = self.head.width;
        let count = rows.len() / self.head.features;
        let mut means = vec![0.0; count * width];
        let every_row = rows.chunks_exact(self.head.features);
        for (row, mean) in every_row.zip(means.chunks_exact_mut(width)) {
            for root in &self.roots {
                let leaf = self.leaf(*root, row, |x| f64::from(x as f32), at_most);
                let values = &self.values[leaf * width..(leaf + 1) * width];
                mean.iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            }
            mean.iter_mut()
                .for_each(|sum| *sum /= self.roots.len() as f64);
        }
        let best = means.chunks_exact(width).map(first_greatest);
        Answer {
            predictions: self.labelled(best),
            probabilities: probabilities.then(|| matrix(count, width, means)),
        }
    }

    /// XGBoost's sum, for families with one sum for all trees.
    fn margin(&self, row: &[f64]) -> f32 {
        let base = self.head.base.first().copied().unwrap_or_default() as f32;
        let start = match self.head.family {
            Family::XgboostLogistic => -(1.0 / base - 1.0).ln(),
            _ => base,
        };
        self.roots.iter().fold(start, |sum, root| {
            sum + self.values[self.leaf(*root, row, |x| f64::from(x as f32), below)] as f32
        })
    }

    fn softmax(&self, rows: &[f64], probabilities: bool) -> Answer {
        let classes = self.head.classes();
        let mut all = Vec::with_capacity(rows.len() / self.head.features * classes);
        for row in rows.chunks_exact(self.head.features) {
            let base = |class: usize| {
                let base = self.head.base.get(class).or(self.head.base.first());
                base.copied().unwrap_or_default() as f32
            };
            let mut margins: Vec<f32> = (0..classes).map(base).collect();
            for (root, class) in self.roots.iter().zip(&self.head.groups) {
                let leaf = self.leaf(*root, row, |x| f64::from(x as f32), below);
                margins[*class] += self.values[leaf] as f32;
            }
            let greatest = margins.iter().copied().fold(f32::MIN, f32::max);
            let mut sum = 0.0_f64;
            for margin in &mut margins {
                *margin = (*margin - greatest).exp();
                sum += f64::from(*margin);
            }
            all.extend(margins.iter().map(|e| f64::from(e / sum as f32)));
        }
        let count = all.len() / classes;
        let predictions = if self.head.labels.is_some() {
            self.labelled(all.chunks_exact(classes).map(first_greatest))
        } else {
            matrix(count, classes, all.clone())
        };
        Answer {
            predictions,
            probabilities: probabilities.then(|| matrix(count, classes, all)),
        }
    }

    fn two_classes(
        &self,
        second: Vec<f64>,
        first: impl Fn(f64) -> f64,
        probabilities: bool,
    ) -> Answer {
        let both: Vec<f64> = second.iter().flat_map(|p| [first(*p), *p]).collect();
        let count = second.len();
        let predictions = if self.head.labels.is_none() {
            vector(second)
        } else if self.head.family == Family::XgboostLogistic {
            self.labelled(second.iter().map(|p| usize::from(*p > 0.5)))
        } else {
            self.labelled(both.chunks_exact(2).map(first_greatest))
        };
        Answer {
            predictions,
            probabilities: probabilities.then(|| matrix(count, 2, both)),
        }
    }

    /// The labels of classes, in the type that Python gives them.
    fn labelled(&self, classes: impl Iterator<Item = usize>) -> Values {
        let labels = self.head.labels.as_deref().unwrap_or_default();
        let chosen: Vec<&serde_json::Value> =
            classes.filter_map(|class| labels.get(class)).collect();
        let all = |is: fn(&serde_json::Value) -> bool| labels.iter().all(is);
        let data = if all(serde_json::Value::is_i64) {
            Data::Integers(chosen.iter().filter_map(|label| label.as_i64()).collect())
        } else if all(serde_json::Value::is_boolean) {
            Data::Booleans(chosen.iter().filter_map(|label| label.as_bool()).collect())
        } else {
            Data::Json(chosen.iter().map(|label| (*label).clone()).collect())
        };
        Values {
            shape: vec![chosen.len()],
            data,
        }
    }
}

fn at_most(value: f64, threshold: f64) -> bool {
    value <= threshold
}

fn below(value: f64, threshold: f64) -> bool {
    value < threshold
}

fn flattened(value: f64) -> f64 {
    if value.abs() <= NEARLY_ZERO {
        0.0
    } else {
        value
    }
}

fn logistic(margin: f32) -> f32 {
    1.0 / ((-margin).min(88.7).exp() + 1.0 + 1e-16)
}

fn first_greatest(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

fn numbers_only(values: Vec<f64>) -> Answer {
    Answer {
        predictions: vector(values),
        probabilities: None,
    }
}

fn vector(values: Vec<f64>) -> Values {
    Values {
        shape: vec![values.len()],
        data: Data::Floats(values),
    }
}

fn matrix(rows: usize, columns: usize, values: Vec<f64>) -> Values {
    Values {
        shape: vec![rows, columns],
        data: Data::Floats(values),
    }
}
