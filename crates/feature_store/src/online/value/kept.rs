//! Kept values as columns.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_schema::{DataType, FieldRef};

use super::{BYTES, DOUBLE, FALSE, LIST, NULL, SINGLE, TEXT, TIME, TRUE, WHOLE};
use super::{content, number, split, write_json};
use crate::dtype::Dtype;

/// Kept values as a column of their feature's type; none where one is of another type.
pub(crate) fn column(dtype: Dtype, values: &[Option<&[u8]>]) -> Option<ArrayRef> {
    match dtype.arrow_type() {
        Some(kind) => of_kept(&kind, values),
        // Types of newer Feast versions are passed through as JSON.
        None => {
            let texts = values.iter().map(|value| {
                let mut json = Vec::new();
                write_json((*value)?, &mut json);
                String::from_utf8(json).ok().filter(|text| text != "null")
            });
            Some(Arc::new(texts.collect::<StringArray>()))
        }
    }
}

fn of_kept(kind: &DataType, values: &[Option<&[u8]>]) -> Option<ArrayRef> {
    macro_rules! gathered {
        ($array:ty, $read:expr) => {{
            let read = values.iter().map(|value| match value {
                None | Some([NULL, ..]) => Some(None),
                Some(value) => $read(*value).map(Some),
            });
            let read: Vec<_> = read.collect::<Option<_>>()?;
            Arc::new(read.into_iter().collect::<$array>()) as ArrayRef
        }};
    }
    Some(match kind {
        DataType::Boolean => gathered!(BooleanArray, |value: &[u8]| match value.first() {
            Some(&TRUE) => Some(true),
            Some(&FALSE) => Some(false),
            _ => None,
        }),
        DataType::Int32 => gathered!(Int32Array, |value| kept_whole(WHOLE, value)
            .and_then(|whole| i32::try_from(whole).ok())),
        DataType::Int64 => gathered!(Int64Array, |value| kept_whole(WHOLE, value)),
        DataType::Float64 => gathered!(Float64Array, kept_float),
        DataType::Float32 => {
            gathered!(Float32Array, |value| kept_float(value)
                .map(|float| float as f32))
        }
        DataType::Utf8 => gathered!(StringArray, |value: &[u8]| {
            let text = (value.first() == Some(&TEXT)).then(|| content(value));
            text.and_then(|text| String::from_utf8(text.to_vec()).ok())
        }),
        DataType::Binary => gathered!(BinaryArray, |value: &[u8]| {
            (value.first() == Some(&BYTES)).then(|| content(value).to_vec())
        }),
        DataType::Timestamp(..) => {
            let times = gathered!(TimestampMicrosecondArray, |value| kept_whole(TIME, value));
            cast(&times, kind).ok()?
        }
        DataType::List(item) => of_lists(item, values)?,
        _ => return None,
    })
}

fn of_lists(item: &FieldRef, lists: &[Option<&[u8]>]) -> Option<ArrayRef> {
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for list in lists {
        let before = items.len();
        match list {
            None | Some([NULL, ..]) => valid.push(false),
            Some(list) if list.first() == Some(&LIST) => {
                let mut rest = content(list);
                while let Some((one, behind)) = split(rest) {
                    items.push(Some(one));
                    rest = behind;
                }
                valid.push(true);
            }
            Some(_) => return None,
        }
        lengths.push(items.len() - before);
    }
    let items = of_kept(item.data_type(), &items)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(item.clone(), offsets, items, Some(NullBuffer::from(valid)));
    Some(Arc::new(list.ok()?))
}

fn kept_whole(tag: u8, value: &[u8]) -> Option<i64> {
    let whole = (value.first() == Some(&tag)).then(|| number(value));
    whole.flatten().map(i64::from_le_bytes)
}

fn kept_float(value: &[u8]) -> Option<f64> {
    match *value.first()? {
        DOUBLE => number(value).map(f64::from_le_bytes),
        SINGLE => number(value).map(|bytes| f32::from_le_bytes(bytes).into()),
        WHOLE => number(value).map(|bytes| i64::from_le_bytes(bytes) as f64),
        _ => None,
    }
}
