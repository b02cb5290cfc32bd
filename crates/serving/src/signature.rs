//! What a model says that it takes: the `signature` of its MLmodel file.
//!
//! MLflow writes it as JSON text inside the YAML: `inputs: '[{"type": "double", "name": "x",
//! "required": true}]'` for columns, `'[{"type": "tensor", "tensor-spec": {"dtype": "float64",
//! "shape": [-1, 4]}}]'` for arrays (`mlflow/types/schema.py`).

use serde::Deserialize;
use serde_json::Value;

/// The inputs that a model names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Signature {
    /// The model was logged without one.
    #[default]
    Absent,
    Columns(Vec<Column>),
    /// One array without a name.
    Array(Array),
    /// Arrays by name, for models with several inputs.
    Arrays(Vec<(String, Array)>),
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// `None` when only the order counts.
    pub(crate) name: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

/// MLflow's data types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Integer,
    Long,
    Float,
    Double,
    Text,
    Binary,
    Datetime,
    /// Arrays, objects and maps in a cell: any JSON.
    Nested,
}

/// An n-dimensional array; `-1` is a dimension of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Array {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<i64>,
}

impl Kind {
    /// The name that MLflow gives it, and what JSON to send.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "boolean (true or false)",
            Self::Integer => "integer (32-bit whole numbers)",
            Self::Long => "long (whole numbers)",
            Self::Float => "float (numbers)",
            Self::Double => "double (numbers)",
            Self::Text => "string",
            Self::Binary => "binary (base64 text)",
            Self::Datetime => "datetime (text such as \"2026-11-21T10:00:00\")",
            Self::Nested => "a list or an object",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "string" => Self::Text,
            "binary" => Self::Binary,
            "datetime" => Self::Datetime,
            "array" | "object" | "map" | "any" | "sparkml_vector" => Self::Nested,
            _ => return None,
        })
    }
}

impl Array {
    /// What a cell of this array may be: numpy's names are many, JSON's are few.
    pub(crate) fn kind(&self) -> Kind {
        let dtype = self.dtype.as_str();
        match dtype {
            "bool" => Kind::Boolean,
            "float32" | "float16" => Kind::Float,
            "int32" | "int16" | "int8" => Kind::Integer,
            "str" | "object" => Kind::Nested,
            _ if dtype.starts_with("int") || dtype.starts_with("uint") => Kind::Long,
            _ if dtype.starts_with("datetime64") => Kind::Datetime,
            _ if dtype.starts_with("float") => Kind::Double,
            _ => Kind::Nested,
        }
    }
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    required: Option<bool>,
    optional: Option<bool>,
    #[serde(rename = "tensor-spec")]
    array: Option<ArraySpec>,
}

#[derive(Deserialize)]
struct ArraySpec {
    dtype: String,
    shape: Vec<i64>,
}

impl Signature {
    /// Reads the text of `signature.inputs`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(inputs: &str) -> Result<Self, String> {
        let specs: Value = serde_json::from_str(inputs).map_err(|e| e.to_string())?;
        if specs.is_null() {
            return Ok(Self::Absent);
        }
        let specs: Vec<Spec> = serde_json::from_value(specs).map_err(|e| e.to_string())?;
        let arrays = specs.iter().filter(|s| s.array.is_some()).count();
        match (specs.len(), arrays) {
            (0, _) => Ok(Self::Absent),
            (_, 0) => specs
                .into_iter()
                .map(column)
                .collect::<Result<_, _>>()
                .map(Self::Columns),
            (all, arrays) if all == arrays => Ok(tensors(specs)),
            _ => Err("it mixes columns and tensors".to_owned()),
        }
    }
}

fn column(spec: Spec) -> Result<Column, String> {
    let kind = Kind::parse(&spec.kind).ok_or_else(|| format!("unknown type {:?}", spec.kind))?;
    let required = spec.required.unwrap_or(!spec.optional.unwrap_or(false));
    Ok(Column {
        name: spec.name,
        kind,
        required,
    })
}

fn tensors(specs: Vec<Spec>) -> Signature {
    let mut arrays: Vec<(Option<String>, Array)> = specs
        .into_iter()
        .filter_map(|s| {
            let ArraySpec { dtype, shape } = s.array?;
            Some((s.name, Array { dtype, shape }))
        })
        .collect();
    if arrays.len() == 1
        && let Some((None, array)) = arrays.pop_if(|(name, _)| name.is_none())
    {
        return Signature::Array(array);
    }
    let named = arrays.into_iter().enumerate();
    Signature::Arrays(
        named
            .map(|(i, (name, a))| (name.unwrap_or(i.to_string()), a))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_name_type_and_need() {
        let text = r#"[{"type": "double", "name": "age", "required": true},
                       {"type": "string", "name": "city", "required": false},
                       {"type": "array", "items": {"type": "long"}, "name": "tags"}]"#;
        let Signature::Columns(columns) = Signature::parse(text).unwrap() else {
            panic!("columns");
        };
        assert_eq!(columns[0].kind, Kind::Double);
        assert!(columns[0].required && !columns[1].required && columns[2].required);
        assert_eq!(columns[2].kind, Kind::Nested);
        assert_eq!(columns[1].name.as_deref(), Some("city"));
    }

    #[test]
    fn an_unnamed_tensor_is_an_array() {
        let text = r#"[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}]"#;
        let Signature::Array(array) = Signature::parse(text).unwrap() else {
            panic!("an array");
        };
        assert_eq!(array.shape, [-1, 4]);
        assert_eq!(array.kind(), Kind::Double);
    }

    #[test]
    fn named_tensors_stay_apart() {
        let text = r#"[{"name": "a", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}},
                       {"name": "b", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]"#;
        let Signature::Arrays(arrays) = Signature::parse(text).unwrap() else {
            panic!("arrays");
        };
        assert_eq!(arrays[1].0, "b");
        assert_eq!(arrays[1].1.kind(), Kind::Long);
    }

    #[test]
    fn what_no_mlflow_writes_is_refused() {
        assert_eq!(Signature::parse("null").unwrap(), Signature::Absent);
        assert!(Signature::parse(r#"[{"type": "quaternion"}]"#).is_err());
        assert!(Signature::parse("{").is_err());
    }
}
