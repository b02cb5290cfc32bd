//! Tensors of the Open Inference Protocol, to columns and from answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inputs::Inputs;
use crate::signature::Kind;
use crate::tabular;
use crate::values::{Data, Values};

/// A named array: `data` is flat in row-major order; nested lists are taken too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tensor<D> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) datatype: String,
    pub(crate) data: D,
}

const DATATYPES: [&str; 13] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "FP32", "FP64", "BYTES",
];

/// Each tensor `[n]` or `[n, 1]` as a column of its name; a single `[n, m]` as m columns.
///
/// # Errors
/// Which tensor is wrong, and how.
pub(crate) fn inputs(tensors: Vec<Tensor<Value>>) -> Result<Inputs, (usize, String)> {
    let single = tensors.len() == 1;
    let mut columns = Vec::with_capacity(tensors.len());
    for (at, tensor) in tensors.into_iter().enumerate() {
        let refused = |message: String| (at, message);
        let Tensor {
            name,
            shape,
            datatype,
            data,
        } = tensor;
        if !DATATYPES.contains(&datatype.as_str()) {
            let known = DATATYPES.join(", ");
            return Err(refused(format!(
                "unknown datatype {datatype:?}; use one of {known}"
            )));
        }
        let mut flat = Vec::new();
        flatten(data, &mut flat);
        if shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)) != Some(flat.len()) {
            let found = flat.len();
            return Err(refused(format!(
                "{found} values do not fill the shape {shape:?}"
            )));
        }
        match shape[..] {
            [_] | [_, 1] => {
                let cells = tabular::cells(flat).map_err(refused)?;
                columns.push((name, cells));
            }
            [_, width] if single && width > 0 => {
                let rows = flat.chunks(width).map(<[Value]>::to_vec).collect();
                return tabular::of_rows(None, rows).map_err(refused);
            }
            _ => {
                return Err(refused(format!(
                    "the shape {shape:?} is neither one column ([n] or [n, 1]) nor the only tensor of rows ([n, m])"
                )));
            }
        }
    }
    Ok(Inputs(columns))
}

fn flatten(data: Value, into: &mut Vec<Value>) {
    match data {
        Value::Array(items) => items.into_iter().for_each(|item| flatten(item, into)),
        value => into.push(value),
    }
}

/// Answers as tensors.
pub(crate) fn outputs(answers: Vec<(&str, Values)>) -> Vec<Tensor<Values>> {
    let tensor = |(name, values): (&str, Values)| {
        let Values { shape, data } = values;
        let (datatype, count) = match &data {
            Data::Floats(v) => ("FP64", v.len()),
            Data::Integers(v) => ("INT64", v.len()),
            Data::Unsigned(v) => ("UINT64", v.len()),
            Data::Booleans(v) => ("BOOL", v.len()),
            Data::Json(v) => ("BYTES", v.len()),
        };
        Tensor {
            name: name.to_owned(),
            shape: if shape.is_empty() { vec![count] } else { shape },
            datatype: datatype.to_owned(),
            data: Values {
                shape: vec![count],
                data,
            },
        }
    };
    answers.into_iter().map(tensor).collect()
}

impl Kind {
    /// The protocol's name of what such a column holds.
    pub(crate) fn datatype(self) -> &'static str {
        match self {
            Self::Boolean => "BOOL",
            Self::Integer => "INT32",
            Self::Long => "INT64",
            Self::Float => "FP32",
            Self::Double => "FP64",
            Self::Text | Self::Binary | Self::Datetime | Self::Nested => "BYTES",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Cells;
    use serde_json::json;

    fn tensor(name: &str, shape: &[usize], datatype: &str, data: Value) -> Tensor<Value> {
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            datatype: datatype.to_owned(),
            data,
        }
    }

    #[test]
    fn named_tensors_are_columns_and_a_matrix_is_rows() {
        let named = vec![
            tensor("a", &[2], "INT64", json!([1, 2])),
            tensor("b", &[2, 1], "FP32", json!([[0.5], [1.5]])),
        ];
        let columns = inputs(named).unwrap();
        assert_eq!(columns.0[0], ("a".to_owned(), Cells::Integers(vec![1, 2])));
        assert_eq!(columns.0[1].1, Cells::Floats(vec![0.5, 1.5]));
        let matrix = inputs(vec![tensor("x", &[2, 2], "FP64", json!([1, 2, 3, 4]))]).unwrap();
        assert_eq!(matrix.0[1], ("1".to_owned(), Cells::Integers(vec![2, 4])));
    }

    #[test]
    fn a_wrong_tensor_is_named() {
        let wrong = [
            tensor("a", &[3], "FP64", json!([1, 2])),
            tensor("a", &[2], "FLOAT", json!([1, 2])),
            tensor("a", &[1, 1, 2], "FP64", json!([1, 2])),
        ];
        for tensor in wrong {
            let good = self::tensor("g", &[2], "FP64", json!([1, 2]));
            assert_eq!(inputs(vec![good, tensor]).unwrap_err().0, 1);
        }
    }

    #[test]
    fn an_answer_keeps_its_shape_and_is_flat() {
        let values = Values {
            shape: vec![1, 2],
            data: Data::Floats(vec![0.25, 0.75]),
        };
        let told = serde_json::to_value(outputs(vec![("probabilities", values)])).unwrap();
        let expected = json!([{"name": "probabilities", "shape": [1, 2], "datatype": "FP64", "data": [0.25, 0.75]}]);
        assert_eq!(told, expected);
    }
}
