//! Rows that would show a difference between two ways to evaluate trees: thresholds and their
//! neighbours, whole numbers, zeros, far values, and NaN.

use crate::engine::numbers::Numbers;
use crate::inputs::{Cells, Inputs};
use crate::signature::{Kind, Signature};

/// Rows of one probe.
const ROWS: usize = 256;

/// A request with the columns that a model takes, by the names that it knows.
///
/// `None` when the signature has columns that are no numbers.
pub(crate) fn inputs(
    numbers: &Numbers,
    signature: &Signature,
    names: Option<&[String]>,
    missing: bool,
) -> Option<Inputs> {
    let kinds = kinds(signature, numbers.head.features)?;
    let mut thresholds: Vec<Vec<f64>> = vec![Vec::new(); numbers.head.features];
    for (at, node) in numbers.nodes.iter().enumerate() {
        if node.left as usize != at {
            thresholds[node.feature as usize].push(node.threshold);
        }
    }
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let columns = kinds.iter().enumerate().map(|(at, (name, kind))| {
        let cell = |_| cell(&mut random, &thresholds[at], missing);
        let floats: Vec<f64> = (0..ROWS).map(cell).collect();
        let cells = match kind {
            Kind::Double | Kind::Float => Cells::Floats(floats),
            _ => Cells::Integers(
                floats
                    .iter()
                    .map(|f| f.round().clamp(-1e6, 1e6) as i64)
                    .collect(),
            ),
        };
        let known = names.and_then(|names| names.get(at)).cloned();
        let name = name.clone().or(known).unwrap_or_else(|| at.to_string());
        (name, cells)
    });
    Some(Inputs(columns.collect()))
}

/// Name and type of each column.
fn kinds(signature: &Signature, features: usize) -> Option<Vec<(Option<String>, Kind)>> {
    let number = |kind: Kind| {
        matches!(
            kind,
            Kind::Double | Kind::Float | Kind::Long | Kind::Integer
        )
    };
    let kinds: Vec<_> = match signature {
        Signature::Absent => vec![(None, Kind::Double); features],
        Signature::Array(array) => vec![(None, array.kind()); features],
        Signature::Columns(columns) => columns
            .iter()
            .map(|column| (column.name.clone(), column.kind))
            .collect(),
        Signature::Arrays(_) => return None,
    };
    let fits = kinds.len() == features && kinds.iter().all(|(_, kind)| number(*kind));
    fits.then_some(kinds)
}

fn cell(random: &mut Random, thresholds: &[f64], missing: bool) -> f64 {
    let threshold = match thresholds.len() {
        0 => 0.0,
        many => thresholds[random.below(many)],
    };
    match random.below(if missing { 12 } else { 10 }) {
        0 | 1 => threshold,
        2 => threshold.next_up(),
        3 => threshold.next_down(),
        4 => f64::from((threshold as f32).next_up()),
        5 => f64::from((threshold as f32).next_down()),
        6 => random.below(21) as f64 - 10.0,
        7 => [0.0, -0.0, 1e-36, 1e6][random.below(4)],
        8 | 9 => (random.unit() - 0.5) * 8.0 * threshold.abs().max(1.0),
        _ => f64::NAN,
    }
}

/// xorshift64*: the same rows each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, many: usize) -> usize {
        (self.next() >> 33) as usize % many
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
