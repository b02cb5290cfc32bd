//! The types of features: Feast's value types, their names, and the columns that fit them.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};
use iceberg::spec::{PrimitiveType, Type};

/// A scalar of Feast; the number is `feast.types.ValueType.Enum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Scalar {
    Bytes = 1,
    String = 2,
    Int32 = 3,
    Int64 = 4,
    Double = 5,
    Float = 6,
    Bool = 7,
    UnixTimestamp = 8,
}

/// The type of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    Scalar(Scalar),
    List(Scalar),
    /// A type of newer Feast versions (sets, maps, JSON, UUID …), kept and passed through as its
    /// column is.
    Other(i32),
}

/// The zone of times, as an offset: Arrow reads names of zones only with a database of them.
pub(crate) const UTC: &str = "+00:00";

/// How far a list's number is from its scalar's.
const LIST: i32 = 10;

const SCALARS: [(Scalar, &str, &[&str]); 8] = [
    (Scalar::Bytes, "bytes", &["binary"]),
    (Scalar::String, "string", &["str", "varchar", "text"]),
    (Scalar::Int32, "int32", &["int", "integer"]),
    (Scalar::Int64, "int64", &["long", "bigint"]),
    (Scalar::Double, "float64", &["double"]),
    (Scalar::Float, "float32", &["float"]),
    (Scalar::Bool, "bool", &["boolean"]),
    (
        Scalar::UnixTimestamp,
        "unix_timestamp",
        &["unixtimestamp", "timestamp", "datetime"],
    ),
];

const OTHERS: [(i32, &str); 6] = [
    (20, "map"),
    (21, "map_list"),
    (32, "json"),
    (34, "struct"),
    (36, "uuid"),
    (44, "decimal"),
];

impl Dtype {
    /// Every name that a request may use first, for error messages.
    pub fn names() -> String {
        let scalars = SCALARS.iter().map(|(_, name, _)| *name);
        let others = OTHERS.iter().map(|(_, name)| *name);
        let names: Vec<&str> = scalars.chain(others).collect();
        format!("{}, and list<TYPE> of the first eight", names.join(", "))
    }

    /// Reads a name in any of the usual spellings: `int64`, `INT64`, `Array(Int64)`,
    /// `int64_list`, `list<int64>`.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        for (open, close) in [
            ("array(", ')'),
            ("list(", ')'),
            ("array<", '>'),
            ("list<", '>'),
        ] {
            if let Some(inner) = name.strip_prefix(open).and_then(|n| n.strip_suffix(close)) {
                return scalar(inner.trim()).map(Self::List);
            }
        }
        if let Some(inner) = name.strip_suffix("_list").and_then(scalar) {
            return Some(Self::List(inner));
        }
        let other = || {
            OTHERS
                .iter()
                .find(|(_, n)| *n == name)
                .map(|(id, _)| Self::Other(*id))
        };
        scalar(&name).map(Self::Scalar).or_else(other)
    }

    /// The type of a number on the wire.
    pub fn from_number(number: i32) -> Self {
        let scalar = |n: i32| SCALARS.iter().map(|s| s.0).find(|s| *s as i32 == n);
        match (scalar(number), scalar(number - LIST)) {
            (Some(s), _) => Self::Scalar(s),
            (None, Some(s)) => Self::List(s),
            (None, None) => Self::Other(number),
        }
    }

    /// The number on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::Scalar(s) => s as i32,
            Self::List(s) => s as i32 + LIST,
            Self::Other(n) => n,
        }
    }

    /// The Arrow type of answers; `None` when the column's own type is passed through.
    pub fn arrow_type(self) -> Option<DataType> {
        let of = |s| match s {
            Scalar::Bytes => DataType::Binary,
            Scalar::String => DataType::Utf8,
            Scalar::Int32 => DataType::Int32,
            Scalar::Int64 => DataType::Int64,
            Scalar::Double => DataType::Float64,
            Scalar::Float => DataType::Float32,
            Scalar::Bool => DataType::Boolean,
            Scalar::UnixTimestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        match self {
            Self::Scalar(s) => Some(of(s)),
            Self::List(s) => Some(DataType::List(Arc::new(Field::new("item", of(s), true)))),
            Self::Other(_) => None,
        }
    }

    /// Whether a column can be read as this type: within whole numbers, from whole numbers and
    /// floats to floats, else like to like.
    pub fn fits(self, column: &Type) -> bool {
        match (self, column) {
            (Self::Scalar(s), Type::Primitive(p)) => scalar_fits(s, p),
            (Self::List(s), Type::List(list)) => match &*list.element_field.field_type {
                Type::Primitive(p) => scalar_fits(s, p),
                _ => false,
            },
            (Self::Other(20 | 21 | 34), Type::Map(_) | Type::Struct(_) | Type::List(_)) => true,
            (Self::Other(32), Type::Primitive(PrimitiveType::String)) => true,
            (Self::Other(36), Type::Primitive(PrimitiveType::Uuid | PrimitiveType::String)) => true,
            (Self::Other(44), Type::Primitive(PrimitiveType::Decimal { .. })) => true,
            // A type that is newer than this list.
            (Self::Other(n), _) => OTHERS.iter().all(|(known, _)| *known != n),
            _ => false,
        }
    }

    /// The names of all types that a column can be read as.
    pub fn fitting(column: &Type) -> Vec<String> {
        let scalars = SCALARS.iter().map(|(s, ..)| Self::Scalar(*s));
        let lists = SCALARS.iter().map(|(s, ..)| Self::List(*s));
        let others = OTHERS.iter().map(|(n, _)| Self::Other(*n));
        let all = scalars.chain(lists).chain(others);
        all.filter(|d| d.fits(column))
            .map(|d| d.to_string())
            .collect()
    }
}

fn scalar(name: &str) -> Option<Scalar> {
    let named = |(_, n, aliases): &&(Scalar, &str, &[&str])| *n == name || aliases.contains(&name);
    SCALARS.iter().find(named).map(|(s, ..)| *s)
}

fn scalar_fits(scalar: Scalar, column: &PrimitiveType) -> bool {
    use PrimitiveType as P;
    match scalar {
        Scalar::Bytes => matches!(column, P::Binary | P::Fixed(_)),
        Scalar::String => matches!(column, P::String),
        Scalar::Int32 | Scalar::Int64 => matches!(column, P::Int | P::Long),
        Scalar::Double | Scalar::Float => {
            matches!(column, P::Float | P::Double | P::Int | P::Long)
        }
        Scalar::Bool => matches!(column, P::Boolean),
        Scalar::UnixTimestamp => matches!(column, P::Timestamp | P::Timestamptz | P::Date),
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |s: &Scalar| {
            SCALARS
                .iter()
                .find(|(k, ..)| k == s)
                .map_or("", |(_, n, _)| n)
        };
        match self {
            Self::Scalar(s) => f.write_str(name(s)),
            Self::List(s) => write!(f, "list<{}>", name(s)),
            Self::Other(n) => match OTHERS.iter().find(|(known, _)| known == n) {
                Some((_, name)) => f.write_str(name),
                None => write!(f, "value type {n}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_in_every_usual_spelling() {
        for (name, number) in [
            ("int64", 4),
            ("INT32", 3),
            ("Float64", 5),
            ("FLOAT32", 6),
            ("double", 5),
            ("UNIX_TIMESTAMP", 8),
            ("Array(Int64)", 14),
            ("string_list", 12),
            ("list<float64>", 15),
            ("json", 32),
        ] {
            assert_eq!(
                Dtype::parse(name).map(Dtype::number),
                Some(number),
                "{name}"
            );
        }
        assert_eq!(Dtype::parse("int65"), None);
    }

    #[test]
    fn numbers_and_names_go_both_ways() {
        for number in (1..=8).chain(11..=18).chain([20, 32, 36, 44]) {
            let dtype = Dtype::from_number(number);
            assert_eq!(dtype.number(), number);
            assert_eq!(Dtype::parse(&dtype.to_string()), Some(dtype));
        }
    }

    #[test]
    fn a_whole_number_may_be_read_as_any_number_but_text_may_not() {
        let long = Type::Primitive(PrimitiveType::Long);
        assert_eq!(
            Dtype::fitting(&long),
            ["int32", "int64", "float64", "float32"]
        );
        let text = Type::Primitive(PrimitiveType::String);
        assert!(!Dtype::Scalar(Scalar::Int64).fits(&text));
    }
}
