//! The columns of a request, as they were sent: `{"column": [values], ...}` in its order.

use std::collections::HashSet;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected,
    Visitor, value::MapAccessDeserializer, value::SeqAccessDeserializer,
};
use serde_json::Value;

/// Integers up to here have a float of their own.
const EXACT: u64 = 1 << 53;

/// The most columns that a request may have.
pub(crate) const MOST_COLUMNS: usize = 10_000;

/// Columns in the order in which they were sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs(pub(crate) Vec<(String, Cells)>);

/// The values of one column in the narrowest type that holds them all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cells {
    Integers(Vec<i64>),
    /// A missing value is NaN, which JSON itself cannot say.
    Floats(Vec<f64>),
    Booleans(Vec<bool>),
    Mixed(Vec<Value>),
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Integers(v) => v.len(),
            Self::Floats(v) => v.len(),
            Self::Booleans(v) => v.len(),
            Self::Mixed(v) => v.len(),
        }
    }

    pub(crate) fn value(&self, row: usize) -> Value {
        match self {
            Self::Integers(v) => Value::from(v[row]),
            Self::Floats(v) => Value::from(v[row]),
            Self::Booleans(v) => Value::from(v[row]),
            Self::Mixed(v) => v[row].clone(),
        }
    }

    /// All values as JSON, for columns that no buffer can hold.
    pub(crate) fn into_values(self) -> Vec<Value> {
        match self {
            Self::Mixed(v) => v,
            Self::Integers(v) => v.into_iter().map(Value::from).collect(),
            Self::Floats(v) => v.into_iter().map(Value::from).collect(),
            Self::Booleans(v) => v.into_iter().map(Value::from).collect(),
        }
    }

    fn push(&mut self, cell: Value) {
        match (&mut *self, cell) {
            (Self::Integers(v), Value::Number(n)) if n.is_i64() => v.extend(n.as_i64()),
            (Self::Integers(v), cell) if is_float(&cell) && v.iter().all(exact) => {
                let mut floats: Vec<f64> = v.iter().map(|i| *i as f64).collect();
                floats.push(float(&cell));
                *self = Self::Floats(floats);
            }
            (Self::Floats(v), cell) if is_float(&cell) => v.push(float(&cell)),
            (Self::Floats(v), Value::Number(n)) if n.as_i64().is_some_and(|i| exact(&i)) => {
                v.extend(n.as_f64());
            }
            (Self::Booleans(v), Value::Bool(b)) => v.push(b),
            (Self::Mixed(v), cell) => v.push(cell),
            (_, cell) => {
                let mut mixed = std::mem::replace(self, Self::Mixed(Vec::new())).into_values();
                mixed.push(cell);
                *self = Self::Mixed(mixed);
            }
        }
    }
}

fn exact(i: &i64) -> bool {
    i.unsigned_abs() <= EXACT
}

fn is_float(cell: &Value) -> bool {
    cell.is_null() || cell.is_f64()
}

fn float(cell: &Value) -> f64 {
    cell.as_f64().unwrap_or(f64::NAN)
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ColumnsVisitor)
    }
}

struct ColumnsVisitor;

impl<'de> Visitor<'de> for ColumnsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns, {\"column\": [a value for each row], ...}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inputs, A::Error> {
        let mut columns: Vec<(String, Cells)> = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if columns.len() == MOST_COLUMNS {
                return Err(A::Error::custom(format!(
                    "more than {MOST_COLUMNS} columns are sent"
                )));
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!(
                    "the column {name:?} is sent twice"
                )));
            }
            let cells = map.next_value::<Cells>()?;
            columns.push((name, cells));
        }
        Ok(Inputs(columns))
    }
}

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CellsVisitor)
    }
}

struct CellsVisitor;

impl<'de> Visitor<'de> for CellsVisitor {
    type Value = Cells;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values, one for each row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cells, A::Error> {
        let Some(first) = seq.next_element_seed(Cell)? else {
            return Ok(Cells::Mixed(Vec::new()));
        };
        let mut cells = match first {
            Value::Number(n) if n.is_i64() => Cells::Integers(n.as_i64().into_iter().collect()),
            cell if is_float(&cell) => Cells::Floats(vec![float(&cell)]),
            Value::Bool(b) => Cells::Booleans(vec![b]),
            cell => Cells::Mixed(vec![cell]),
        };
        while let Some(cell) = seq.next_element_seed(Cell)? {
            cells.push(cell);
        }
        // Nothing but nulls is not a number: Python sees None.
        if matches!(&cells, Cells::Floats(v) if v.iter().all(|f| f.is_nan())) {
            cells = Cells::Mixed(vec![Value::Null; cells.len()]);
        }
        Ok(cells)
    }
}

/// One cell; unlike `Value` it refuses numbers that no float can hold instead of losing them.
struct Cell;

impl<'de> DeserializeSeed<'de> for Cell {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(i64::try_from(v).map_or_else(|_| Value::from(v), Value::from))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::invalid_value(Unexpected::Float(v), &"a finite number or null"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        Value::deserialize(SeqAccessDeserializer::new(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        Value::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(json: &str) -> Cells {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn columns_keep_their_order() {
        let inputs: Inputs = serde_json::from_str(r#"{"b":[1],"a":[2.5]}"#).unwrap();
        assert_eq!(inputs.0[0], ("b".to_owned(), Cells::Integers(vec![1])));
        assert_eq!(inputs.0[1], ("a".to_owned(), Cells::Floats(vec![2.5])));
    }

    #[test]
    fn a_column_takes_the_narrowest_type_that_holds_it() {
        assert_eq!(cells("[1, 2.5, 3]"), Cells::Floats(vec![1.0, 2.5, 3.0]));
        assert_eq!(cells("[true, false]"), Cells::Booleans(vec![true, false]));
        assert!(matches!(cells("[1, null]"), Cells::Floats(v) if v[0] == 1.0 && v[1].is_nan()));
        assert!(matches!(cells("[null, 1]"), Cells::Floats(v) if v[0].is_nan() && v[1] == 1.0));
        assert!(matches!(cells("[1, \"a\"]"), Cells::Mixed(v) if v[1] == "a"));
        assert!(matches!(cells("[null, null]"), Cells::Mixed(v) if v[1].is_null()));
        assert!(matches!(cells("[[1, 2], [3]]"), Cells::Mixed(v) if v[0][1] == 2));
    }

    #[test]
    fn an_integer_that_no_float_holds_is_not_rounded() {
        let large = i64::MAX;
        assert_eq!(cells(&format!("[{large}]")), Cells::Integers(vec![large]));
        assert!(matches!(cells(&format!("[{large}, 0.5]")), Cells::Mixed(v) if v[0] == large));
        assert!(matches!(cells(&format!("[0.5, {large}]")), Cells::Mixed(v) if v[1] == large));
    }

    #[test]
    fn every_float_is_read_to_its_last_bit() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let sent = f64::from_bits(bits);
            if sent.is_finite() {
                let read = cells(&format!("[{sent:?}]"));
                assert_eq!(read, Cells::Floats(vec![sent]), "{sent:?}");
            }
        }
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        for wrong in ["[1,2]", r#"{"a": 1}"#, r#"{"a":[1],"a":[2]}"#] {
            assert!(serde_json::from_str::<Inputs>(wrong).is_err(), "{wrong}");
        }
        let error = serde_json::from_str::<Inputs>(r#"{"a": 1}"#).unwrap_err();
        assert!(error.to_string().contains("a list of values"), "{error}");
    }

    #[test]
    fn more_columns_than_a_request_may_have_are_refused() {
        let json = |count: usize| {
            let columns: Vec<String> = (0..count).map(|at| format!(r#""c{at}":[1]"#)).collect();
            format!("{{{}}}", columns.join(","))
        };
        let most: Inputs = serde_json::from_str(&json(MOST_COLUMNS)).unwrap();
        assert_eq!(most.0.len(), MOST_COLUMNS);
        let error = serde_json::from_str::<Inputs>(&json(MOST_COLUMNS + 1)).unwrap_err();
        assert!(error.to_string().contains("10000 columns"), "{error}");
    }
}
