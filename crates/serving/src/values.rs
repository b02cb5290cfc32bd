//! What a model answers: numbers, truths or JSON, in the shape that Python gave them.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// An array of answers. The first dimension is the row.
///
/// In JSON a missing number (NaN) is `null` and an infinite one is `"Infinity"` or `"-Infinity"`;
/// other numbers are written with the fewest digits that give the same bits back, as Python's
/// `float` does.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// The elements in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
    Unsigned(Vec<u64>),
    Booleans(Vec<bool>),
    /// One JSON value per row; or, with an empty shape, one for all rows.
    Json(Vec<serde_json::Value>),
}

impl Values {
    /// The number of rows; `None` when the model gave one answer for all rows.
    pub fn rows(&self) -> Option<usize> {
        self.shape.first().copied()
    }

    /// Whether both are the same to the last bit.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        let same = match (&self.data, &other.data) {
            (Data::Floats(a), Data::Floats(b)) => a
                .iter()
                .map(|f| f.to_bits())
                .eq(b.iter().map(|f| f.to_bits())),
            (a, b) => a == b,
        };
        same && self.shape == other.shape
    }

    /// Takes the rows `from..from + count` out of a joined answer.
    pub(crate) fn slice(&self, from: usize, count: usize) -> Self {
        let width: usize = self.shape.iter().skip(1).product();
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = count;
        }
        let range = from * width..(from + count) * width;
        let data = match &self.data {
            Data::Floats(v) => Data::Floats(v[range].to_vec()),
            Data::Integers(v) => Data::Integers(v[range].to_vec()),
            Data::Unsigned(v) => Data::Unsigned(v[range].to_vec()),
            Data::Booleans(v) => Data::Booleans(v[range].to_vec()),
            Data::Json(v) => Data::Json(v[range].to_vec()),
        };
        Self { shape, data }
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.data {
            Data::Floats(v) => Nested(&self.shape, v, &|f: &f64| Float(*f)).serialize(serializer),
            Data::Integers(v) => Nested(&self.shape, v, &|i: &i64| *i).serialize(serializer),
            Data::Unsigned(v) => Nested(&self.shape, v, &|u: &u64| *u).serialize(serializer),
            Data::Booleans(v) => Nested(&self.shape, v, &|b: &bool| *b).serialize(serializer),
            Data::Json(v) if self.shape.is_empty() => v.first().serialize(serializer),
            Data::Json(v) => v.serialize(serializer),
        }
    }
}

struct Float(f64);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            f if f == f64::INFINITY => serializer.serialize_str("Infinity"),
            f if f == f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            f => serializer.serialize_f64(f),
        }
    }
}

/// A slice written as lists of lists by its shape.
struct Nested<'a, T, F>(&'a [usize], &'a [T], &'a F);

impl<T, O: Serialize, F: Fn(&T) -> O> Serialize for Nested<'_, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(shape, elements, convert) = *self;
        match shape {
            [] => match elements.first() {
                Some(only) => convert(only).serialize(serializer),
                None => serializer.serialize_none(),
            },
            [_] => serializer.collect_seq(elements.iter().map(convert)),
            [rows, inner @ ..] => {
                let width: usize = inner.iter().product();
                let mut seq = serializer.serialize_seq(Some(*rows))?;
                for row in 0..*rows {
                    let part = &elements[row * width..(row + 1) * width];
                    seq.serialize_element(&Nested(inner, part, convert))?;
                }
                seq.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(shape: &[usize], data: Data) -> String {
        serde_json::to_string(&Values {
            shape: shape.to_vec(),
            data,
        })
        .unwrap()
    }

    #[test]
    fn numbers_keep_their_shape_and_their_bits() {
        let floats = Data::Floats(vec![0.1, 1.0, f64::NAN, f64::INFINITY, -0.0, 1e300]);
        assert_eq!(
            json(&[3, 2], floats),
            r#"[[0.1,1.0],[null,"Infinity"],[-0.0,1e+300]]"#
        );
        assert_eq!(json(&[2], Data::Integers(vec![1, -2])), "[1,-2]");
        assert_eq!(
            json(&[2], Data::Booleans(vec![true, false])),
            "[true,false]"
        );
        assert_eq!(json(&[], Data::Floats(vec![2.5])), "2.5");
        assert_eq!(
            json(&[1, 1, 2], Data::Unsigned(vec![u64::MAX, 0])),
            "[[[18446744073709551615,0]]]"
        );
    }

    #[test]
    fn a_joined_answer_is_cut_by_rows() {
        let joined = Values {
            shape: vec![3, 2],
            data: Data::Integers(vec![1, 2, 3, 4, 5, 6]),
        };
        let part = joined.slice(1, 2);
        assert_eq!(part.shape, [2, 2]);
        assert_eq!(part.data, Data::Integers(vec![3, 4, 5, 6]));
    }
}
