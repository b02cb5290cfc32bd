//! One column to the type that a signature gives it.

use serde_json::Value;

use crate::datetime;
use crate::frame::Buffer;
use crate::inputs::Cells;
use crate::signature::Kind;

/// Floats up to here are whole numbers without a gap.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Converts a column without losing anything: whole numbers go to floats, floats that are whole
/// to integers, `null` to NaN (or to no time), nothing to text.
///
/// # Errors
/// What was expected and the first value that is not it.
pub(crate) fn convert(cells: Cells, kind: Kind) -> Result<Buffer, String> {
    match kind {
        Kind::Double => floats(cells, kind).map(Buffer::F64),
        Kind::Float => {
            let wide = floats(cells, kind)?;
            Ok(Buffer::F32(wide.into_iter().map(|f| f as f32).collect()))
        }
        Kind::Long => integers(cells, kind).map(Buffer::I64),
        Kind::Integer => {
            let wide = integers(cells, kind)?;
            let narrow = wide.iter().enumerate().map(|(row, i)| {
                i32::try_from(*i).map_err(|_| refused(kind, row, &Value::from(*i)))
            });
            narrow.collect::<Result<_, _>>().map(Buffer::I32)
        }
        Kind::Boolean => booleans(cells),
        Kind::Text => texts(cells, kind).map(Buffer::Json),
        Kind::Binary => texts(cells, kind).map(Buffer::Binary),
        Kind::Datetime => datetimes(cells),
        Kind::Nested => Ok(Buffer::Json(cells.into_values())),
    }
}

/// The type that Python would give the column by itself.
pub(crate) fn natural(cells: Cells) -> Buffer {
    match cells {
        Cells::Integers(v) => Buffer::I64(v),
        Cells::Floats(v) => Buffer::F64(v),
        Cells::Booleans(v) => Buffer::Bool(v),
        Cells::Mixed(v) => Buffer::Json(v),
    }
}

fn floats(cells: Cells, kind: Kind) -> Result<Vec<f64>, String> {
    match cells {
        Cells::Floats(v) => Ok(v),
        Cells::Integers(v) => Ok(v.into_iter().map(|i| i as f64).collect()),
        other => each(other, kind, |value| match value {
            Value::Null => Some(f64::NAN),
            Value::Number(n) => n.as_f64(),
            _ => None,
        }),
    }
}

fn integers(cells: Cells, kind: Kind) -> Result<Vec<i64>, String> {
    match cells {
        Cells::Integers(v) => Ok(v),
        other => each(other, kind, |value| {
            let number = value.as_i64();
            number.or_else(|| value.as_f64().and_then(whole))
        }),
    }
}

fn whole(f: f64) -> Option<i64> {
    (f.fract() == 0.0 && f.abs() <= EXACT).then_some(f as i64)
}

fn booleans(cells: Cells) -> Result<Buffer, String> {
    match cells {
        Cells::Booleans(v) => Ok(Buffer::Bool(v)),
        // A missing truth stays None, as mlflow leaves it.
        Cells::Mixed(v) if v.iter().all(|v| v.is_boolean() || v.is_null()) => Ok(Buffer::Json(v)),
        other => each(other, Kind::Boolean, Value::as_bool).map(Buffer::Bool),
    }
}

fn texts(cells: Cells, kind: Kind) -> Result<Vec<Value>, String> {
    each(cells, kind, |value| {
        (value.is_string() || value.is_null()).then(|| value.clone())
    })
}

fn datetimes(cells: Cells) -> Result<Buffer, String> {
    let moments = each(cells, Kind::Datetime, |value| match value {
        Value::Null => Some(datetime::MISSING),
        Value::String(text) => datetime::parse(text),
        _ => None,
    });
    moments.map(Buffer::Datetime)
}

fn each<T>(cells: Cells, kind: Kind, take: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    (0..cells.len())
        .map(|row| {
            let value = cells.value(row);
            take(&value).ok_or_else(|| refused(kind, row, &value))
        })
        .collect()
}

fn refused(kind: Kind, row: usize, value: &Value) -> String {
    let expected = kind.expected();
    let missing = value.is_null() && matches!(kind, Kind::Long | Kind::Integer);
    if missing {
        return format!("expects {expected}, which cannot be missing, but row {row} is null");
    }
    let mut shown = value.to_string();
    if shown.chars().count() > 60 {
        shown = shown.chars().take(60).chain("...".chars()).collect();
    }
    format!("expects {expected}, but row {row} is {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(json: &str) -> Cells {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_go_where_nothing_is_lost() {
        assert_eq!(
            convert(cells("[1]"), Kind::Double),
            Ok(Buffer::F64(vec![1.0]))
        );
        assert_eq!(
            convert(cells("[2.0]"), Kind::Long),
            Ok(Buffer::I64(vec![2]))
        );
        assert_eq!(
            convert(cells("[7]"), Kind::Integer),
            Ok(Buffer::I32(vec![7]))
        );
        assert_eq!(
            convert(cells("[0.1]"), Kind::Float),
            Ok(Buffer::F32(vec![0.1]))
        );
        let large = i64::MAX;
        let text = format!("[{large}]");
        assert_eq!(
            convert(cells(&text), Kind::Long),
            Ok(Buffer::I64(vec![large]))
        );
    }

    #[test]
    fn null_is_missing_where_the_type_has_a_word_for_it() {
        for json in ["[null]", "[1, null]", "[null, null]"] {
            let Ok(Buffer::F64(v)) = convert(cells(json), Kind::Double) else {
                panic!("{json}");
            };
            assert!(v.last().unwrap().is_nan(), "{json}");
        }
        let error = convert(cells("[1, null]"), Kind::Long).unwrap_err();
        assert!(
            error.contains("cannot be missing") && error.contains("row 1"),
            "{error}"
        );
        assert_eq!(
            convert(cells("[null]"), Kind::Datetime),
            Ok(Buffer::Datetime(vec![i64::MIN]))
        );
    }

    #[test]
    fn a_wrong_type_names_what_is_expected_and_what_came() {
        let error = |json, kind| convert(cells(json), kind).unwrap_err();
        assert_eq!(
            error(r#"[1.5, "abc"]"#, Kind::Double),
            r#"expects double (numbers), but row 1 is "abc""#
        );
        assert!(error("[1.5]", Kind::Long).contains("row 0 is 1.5"));
        assert!(error("[3000000000]", Kind::Integer).contains("32-bit"));
        assert!(error("[1]", Kind::Text).contains("expects string"));
        assert!(error("[1]", Kind::Boolean).contains("true or false"));
        assert!(error("[true]", Kind::Double).contains("row 0 is true"));
        assert!(error(r#"["soon"]"#, Kind::Datetime).contains("2026-11-21"));
    }
}
