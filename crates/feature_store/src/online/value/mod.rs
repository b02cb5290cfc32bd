//! One value of an online row as bytes: a tag, then what the tag says. Reading a row is walking
//! over such values, and an answer is written straight from them.

mod kept;

pub(crate) use kept::column;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::dtype::{Dtype, Scalar};
use crate::error::Error;
use crate::json;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const WHOLE: u8 = 3;
const DOUBLE: u8 = 4;
const SINGLE: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
/// Microseconds since 1970.
const TIME: u8 = 8;
const LIST: u8 = 9;
/// JSON as it is answered.
const JSON: u8 = 10;

/// Writes the value of a row.
pub(crate) type Encoder = Box<dyn Fn(usize, &mut Vec<u8>) + Send>;

/// What writes the values of a column.
///
/// # Errors
/// When the column's type cannot be kept.
pub(crate) fn encoder(column: &ArrayRef) -> Result<Encoder, Error> {
    let valid = column.clone();
    let of_value = of_values(column)?;
    Ok(Box::new(move |row, into| {
        if valid.is_valid(row) {
            of_value(row, into);
        } else {
            into.push(NULL);
        }
    }))
}

fn of_values(column: &ArrayRef) -> Result<Encoder, Error> {
    Ok(match column.data_type() {
        DataType::Boolean => {
            let column = column.as_boolean().clone();
            Box::new(move |row, into| push_bool(column.value(row), into))
        }
        DataType::Int32 => {
            let column = column.as_primitive::<Int32Type>().clone();
            Box::new(move |row, into| push_whole(column.value(row).into(), into))
        }
        DataType::Int64 => {
            let column = column.as_primitive::<Int64Type>().clone();
            Box::new(move |row, into| push_whole(column.value(row), into))
        }
        DataType::Float64 => {
            let column = column.as_primitive::<Float64Type>().clone();
            Box::new(move |row, into| push_double(column.value(row), into))
        }
        DataType::Float32 => {
            let column = column.as_primitive::<Float32Type>().clone();
            Box::new(move |row, into| push_single(column.value(row), into))
        }
        DataType::Utf8 => {
            let column = column.as_string::<i32>().clone();
            Box::new(move |row, into| push_sized(TEXT, column.value(row).as_bytes(), into))
        }
        DataType::Binary => {
            let column = column.as_binary::<i32>().clone();
            Box::new(move |row, into| push_sized(BYTES, column.value(row), into))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let column = column.as_primitive::<TimestampMicrosecondType>().clone();
            Box::new(move |row, into| push_time(column.value(row), into))
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>().clone();
            let items = encoder(lists.values())?;
            Box::new(move |row, into| {
                let offsets = lists.value_offsets();
                let items_of_row = offsets[row] as usize..offsets[row + 1] as usize;
                push_list(into, |into| items_of_row.for_each(|item| items(item, into)));
            })
        }
        // Types of newer Feast versions are passed through as JSON.
        _ => {
            let values = json::values(column)?;
            Box::new(move |row, into| push_json(&values[row], into))
        }
    })
}

/// Writes a value that came as JSON; the error says what was expected.
///
/// # Errors
/// When the value is not of the type.
pub(crate) fn encode_json(dtype: Dtype, value: &Value, into: &mut Vec<u8>) -> Result<(), String> {
    if value.is_null() {
        into.push(NULL);
        return Ok(());
    }
    match dtype {
        Dtype::Scalar(scalar) => encode_scalar(scalar, value, into),
        Dtype::List(scalar) => {
            let items = value
                .as_array()
                .ok_or_else(|| format!("{value} is no list"))?;
            let mut result = Ok(());
            push_list(into, |into| {
                result = items.iter().try_for_each(|item| {
                    if item.is_null() {
                        into.push(NULL);
                        return Ok(());
                    }
                    encode_scalar(scalar, item, into)
                });
            });
            result
        }
        Dtype::Other(_) => {
            push_json(value, into);
            Ok(())
        }
    }
}

fn encode_scalar(scalar: Scalar, value: &Value, into: &mut Vec<u8>) -> Result<(), String> {
    let is_no = |what: &str| format!("{value} is no {what}");
    match scalar {
        Scalar::Int32 | Scalar::Int64 => {
            let whole = whole(value).ok_or_else(|| is_no("whole number"))?;
            if scalar == Scalar::Int32 && i32::try_from(whole).is_err() {
                return Err(is_no("whole number of 32 bits"));
            }
            push_whole(whole, into);
        }
        Scalar::Double => push_double(float(value).ok_or_else(|| is_no("number"))?, into),
        Scalar::Float => {
            let number = float(value).ok_or_else(|| is_no("number"))?;
            push_single(number as f32, into);
        }
        Scalar::Bool => push_bool(value.as_bool().ok_or_else(|| is_no("truth value"))?, into),
        Scalar::String => {
            let text = value.as_str().ok_or_else(|| is_no("text"))?;
            push_sized(TEXT, text.as_bytes(), into);
        }
        Scalar::Bytes => {
            let text = value.as_str().ok_or_else(|| is_no("base64"))?;
            let bytes = STANDARD.decode(text).map_err(|_| is_no("base64"))?;
            push_sized(BYTES, &bytes, into);
        }
        Scalar::UnixTimestamp => push_time(
            time(value).ok_or_else(|| is_no("time: give ISO 8601 or seconds since 1970"))?,
            into,
        ),
    }
    Ok(())
}

/// A whole number, also one that was written with a fraction of zero.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    let of_float =
        |v: f64| (v.fract() == 0.0 && (-9.2e18..9.2e18).contains(&v)).then_some(v as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(of_float))
}

/// A number; JSON has no others than finite ones, so that those come as text.
fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A time in microseconds: ISO 8601, or seconds since 1970.
pub(crate) fn time(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => parse_time(text),
        other => {
            let seconds = other.as_f64()?;
            (seconds.abs() < 9e12).then_some((seconds * 1e6).round() as i64)
        }
    }
}

/// ISO 8601 in microseconds; without a zone it is UTC.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let ns = arrow_cast::parse::string_to_timestamp_nanos(text).ok()?;
    Some(ns.div_euclid(1000))
}

fn push_bool(value: bool, into: &mut Vec<u8>) {
    into.push(if value { TRUE } else { FALSE });
}

pub(crate) fn push_whole(value: i64, into: &mut Vec<u8>) {
    into.push(WHOLE);
    into.extend(value.to_le_bytes());
}

fn push_double(value: f64, into: &mut Vec<u8>) {
    into.push(DOUBLE);
    into.extend(value.to_le_bytes());
}

fn push_single(value: f32, into: &mut Vec<u8>) {
    into.push(SINGLE);
    into.extend(value.to_le_bytes());
}

fn push_time(us: i64, into: &mut Vec<u8>) {
    into.push(TIME);
    into.extend(us.to_le_bytes());
}

pub(crate) fn push_text(text: &str, into: &mut Vec<u8>) {
    push_sized(TEXT, text.as_bytes(), into);
}

fn push_sized(tag: u8, bytes: &[u8], into: &mut Vec<u8>) {
    into.push(tag);
    // Longer than 4 GiB is longer than any Arrow array of this type.
    into.extend((bytes.len() as u32).to_le_bytes());
    into.extend(bytes);
}

fn push_json(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Null => into.push(NULL),
        Value::String(text) => push_text(text, into),
        other => push_sized(JSON, other.to_string().as_bytes(), into),
    }
}

fn push_list(into: &mut Vec<u8>, items: impl FnOnce(&mut Vec<u8>)) {
    into.push(LIST);
    let size_at = into.len();
    into.extend([0; 4]);
    items(into);
    let size = (into.len() - size_at - 4) as u32;
    into[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
}

/// A value in its bytes, and the bytes behind it.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = match *bytes.first()? {
        NULL | FALSE | TRUE => 1,
        WHOLE | DOUBLE | TIME => 9,
        SINGLE => 5,
        _ => {
            let size: [u8; 4] = bytes.get(1..5)?.try_into().ok()?;
            5 + u32::from_le_bytes(size) as usize
        }
    };
    bytes.split_at_checked(size)
}

/// Writes a value as Feast's own server answers it: bytes in base64, times in whole seconds,
/// floats that JSON cannot write as text.
pub(crate) fn write_json(value: &[u8], into: &mut Vec<u8>) {
    let written = match value.first() {
        Some(&FALSE) => Some("false".to_owned()),
        Some(&TRUE) => Some("true".to_owned()),
        Some(&WHOLE) => number(value).map(|n| i64::from_le_bytes(n).to_string()),
        Some(&DOUBLE) => number(value).map(|n| float_text(f64::from_le_bytes(n))),
        Some(&SINGLE) => number(value).map(|n| single_text(f32::from_le_bytes(n))),
        Some(&TIME) => number(value).map(|n| {
            let us = i64::from_le_bytes(n);
            us.div_euclid(1_000_000).to_string()
        }),
        Some(&TEXT) => std::str::from_utf8(content(value))
            .ok()
            .and_then(|text| serde_json::to_string(text).ok()),
        Some(&BYTES) => Some(format!("\"{}\"", STANDARD.encode(content(value)))),
        Some(&JSON) => return into.extend(content(value)),
        Some(&LIST) => return write_list(content(value), into),
        _ => None,
    };
    into.extend(written.as_deref().unwrap_or("null").as_bytes());
}

fn write_list(mut items: &[u8], into: &mut Vec<u8>) {
    into.push(b'[');
    let mut first = true;
    while let Some((item, rest)) = split(items) {
        if !std::mem::take(&mut first) {
            into.push(b',');
        }
        write_json(item, into);
        items = rest;
    }
    into.push(b']');
}

fn number<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.get(1..)?.try_into().ok()
}

fn content(value: &[u8]) -> &[u8] {
    value.get(5..).unwrap_or_default()
}

fn float_text(value: f64) -> String {
    match serde_json::Number::from_f64(value) {
        Some(number) => number.to_string(),
        None => not_finite(value),
    }
}

/// The shortest text of the 32 bits, with a fraction: the SDK tells floats from whole numbers by
/// it.
fn single_text(value: f32) -> String {
    if !value.is_finite() {
        return not_finite(value.into());
    }
    format!("{value:?}")
}

/// What JSON has no number for. NaN is no value, as in Feast: as text it would be one to the SDK.
fn not_finite(value: f64) -> String {
    let text = if value.is_nan() {
        "null"
    } else if value > 0.0 {
        "\"Infinity\""
    } else {
        "\"-Infinity\""
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both_ways(dtype: &str, value: Value) -> Result<Value, String> {
        let mut bytes = Vec::new();
        encode_json(Dtype::parse(dtype).unwrap(), &value, &mut bytes)?;
        let (one, rest) = split(&bytes).unwrap();
        assert!(rest.is_empty());
        let mut text = Vec::new();
        write_json(one, &mut text);
        Ok(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn every_type_goes_in_and_out() {
        for (dtype, value) in [
            ("int64", json!(-7)),
            ("int32", json!(7)),
            ("float64", json!(1.0)),
            ("float32", json!(0.1)),
            ("float64", json!("-Infinity")),
            ("string", json!("é \"x\"\n")),
            ("bytes", json!("AAE=")),
            ("bool", json!(true)),
            ("unix_timestamp", json!(1_700_000_000)),
            ("list<int64>", json!([1, null, 3])),
            ("list<string>", json!([])),
            ("json", json!({"a": [1, 2.5]})),
            ("json", json!("{\"a\": 1}")),
            ("int64", Value::Null),
        ] {
            assert_eq!(both_ways(dtype, value.clone()), Ok(value), "{dtype}");
        }
        assert_eq!(both_ways("int64", json!(3.0)), Ok(json!(3)));
        assert_eq!(both_ways("float64", json!("NaN")), Ok(Value::Null));
        let day = json!("2025-11-02T00:00:00Z");
        assert_eq!(both_ways("unix_timestamp", day), Ok(json!(1_762_041_600)));
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_what_was_expected() {
        let refused = |dtype, value| both_ways(dtype, value).unwrap_err();
        assert_eq!(refused("int64", json!(1.5)), "1.5 is no whole number");
        assert_eq!(
            refused("int32", json!(1_i64 << 40)),
            "1099511627776 is no whole number of 32 bits"
        );
        assert_eq!(refused("float64", json!("x")), "\"x\" is no number");
        assert_eq!(refused("list<bool>", json!([1])), "1 is no truth value");
    }

    #[test]
    fn floats_are_written_with_a_fraction() {
        let mut bytes = Vec::new();
        push_single(2.0, &mut bytes);
        let mut text = Vec::new();
        write_json(&bytes, &mut text);
        assert_eq!(text, b"2.0");
    }
}
