//! Columns out of JSON and into JSON.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, MapArray, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray,
};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema};
use serde_json::{Map, Value};

use crate::dtype::UTC;
use crate::error::Error;

/// What a value and an object take once they are read, at most: a list has room for twice as many as
/// are in it, and an object room for some entries whether they are there or not.
const VALUE_BYTES: usize = 96;
const OBJECT_BYTES: usize = 700;

/// The most columns that rows may have.
const MOST_COLUMNS: usize = 10_000;

/// Rows that lack most of their columns become columns that are mostly null: so many nulls may come
/// of each value, and so many in any case.
const NULLS_PER_VALUE: usize = 4;
const FEW_NULLS: usize = 1_000_000;

/// How many bytes a text in JSON takes at most once it is read.
pub(crate) fn bytes_read(text: &[u8]) -> usize {
    let count = |wanted: fn(&u8) -> bool| text.iter().filter(|byte| wanted(byte)).count();
    let values = 1 + count(|byte| matches!(byte, b',' | b'[' | b'{'));
    let objects = count(|byte| *byte == b'{');
    text.len() + values * VALUE_BYTES + objects * OBJECT_BYTES
}

/// Columns from `{"column": [values]}`, or from `[{"column": value}]`, where an absent value is
/// null.
///
/// # Errors
/// When columns differ in length or a column holds values of different kinds.
pub(crate) fn to_batch(value: Value) -> Result<RecordBatch, Error> {
    let columns = match value {
        Value::Object(columns) => columns
            .into_iter()
            .map(|(name, values)| match values {
                Value::Array(values) => Ok((name, values)),
                _ => Err(Error::Invalid(format!("{name:?} is not a list of values"))),
            })
            .collect::<Result<Vec<_>, _>>()?,
        Value::Array(rows) => by_column(rows)?,
        _ => {
            return Err(Error::Invalid(
                "give rows as {\"column\": [values]} or as [{\"column\": value}]".to_owned(),
            ));
        }
    };
    few_columns(columns.len())?;
    let rows = columns.first().map_or(0, |(_, values)| values.len());
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (name, values) in columns {
        if values.len() != rows {
            return Err(Error::Invalid(format!(
                "column {name:?} has {} values, the first column {rows}",
                values.len()
            )));
        }
        let array = column(&name, &values)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}

fn few_columns(count: usize) -> Result<(), Error> {
    if count <= MOST_COLUMNS {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the rows have more than {MOST_COLUMNS} columns: leave out those that are not asked about"
    )))
}

fn few_nulls(nulls: usize, values: usize) -> Result<(), Error> {
    if nulls <= FEW_NULLS.max(values.saturating_mul(NULLS_PER_VALUE)) {
        return Ok(());
    }
    Err(Error::Invalid(
        "most rows have none of most columns: give rows of the same columns, or {\"column\": [values]}"
            .to_owned(),
    ))
}

fn by_column(rows: Vec<Value>) -> Result<Vec<(String, Vec<Value>)>, Error> {
    let (count, mut values, mut nulls) = (rows.len(), 0_usize, 0);
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        let Value::Object(row) = row else {
            return Err(Error::Invalid(format!("row {index} is not an object")));
        };
        values += row.len();
        for (name, value) in row {
            let at = match places.get(&name) {
                Some(at) => *at,
                None => {
                    few_columns(columns.len() + 1)?;
                    columns.push((name.clone(), Vec::new()));
                    places.insert(name, columns.len() - 1);
                    columns.len() - 1
                }
            };
            nulls += index - columns[at].1.len();
            few_nulls(nulls, values)?;
            columns[at].1.resize(index, Value::Null);
            columns[at].1.push(value);
        }
    }
    let cells = count.saturating_mul(columns.len());
    few_nulls(cells.saturating_sub(values), values)?;
    for (_, values) in &mut columns {
        values.resize(count, Value::Null);
    }
    Ok(columns)
}

/// One column: whole numbers, numbers, text or truth values.
fn column(name: &str, values: &[Value]) -> Result<ArrayRef, Error> {
    let given = || values.iter().filter(|v| !v.is_null());
    if given().next().is_none() {
        return Ok(Arc::new(NullArray::new(values.len())));
    }
    if given().all(Value::is_i64) {
        return Ok(Arc::new(
            values.iter().map(Value::as_i64).collect::<Int64Array>(),
        ));
    }
    if given().all(Value::is_number) {
        return Ok(Arc::new(
            values.iter().map(Value::as_f64).collect::<Float64Array>(),
        ));
    }
    if given().all(Value::is_string) {
        return Ok(Arc::new(
            values.iter().map(Value::as_str).collect::<StringArray>(),
        ));
    }
    if given().all(Value::is_boolean) {
        return Ok(Arc::new(
            values.iter().map(Value::as_bool).collect::<BooleanArray>(),
        ));
    }
    Err(Error::Invalid(format!(
        "column {name:?} mixes kinds of values, or holds lists or objects; give numbers, texts or truth values"
    )))
}

/// Columns as `{"column": [values]}`: times as ISO 8601 in UTC, floats that JSON cannot write
/// (NaN, infinities) as null, bytes as hexadecimal text.
///
/// # Errors
/// When a column's type cannot be written.
pub(crate) fn from_batch(batch: &RecordBatch) -> Result<Map<String, Value>, Error> {
    let schema = batch.schema();
    let columns = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| Ok((field.name().clone(), Value::Array(values(column)?))));
    columns.collect()
}

/// The values of one column.
pub(crate) fn values(column: &ArrayRef) -> Result<Vec<Value>, Error> {
    Ok(match column.data_type() {
        DataType::Null => vec![Value::Null; column.len()],
        DataType::Boolean => column.as_boolean().iter().map(Value::from).collect(),
        kind if kind.is_integer() => {
            let whole = cast(column, &DataType::Int64)?;
            whole
                .as_primitive::<Int64Type>()
                .iter()
                .map(Value::from)
                .collect()
        }
        DataType::Float64 => column
            .as_primitive::<Float64Type>()
            .iter()
            .map(Value::from)
            .collect(),
        // The shortest text of the 32 bits, not of the 64 that they widen to.
        DataType::Float32 => {
            let single = |v: f32| v.to_string().parse::<f64>().ok().filter(|v| v.is_finite());
            column
                .as_primitive::<Float32Type>()
                .iter()
                .map(|v| Value::from(v.and_then(single)))
                .collect()
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>().iter();
            let lists = lists.map(|list| match list {
                Some(list) => Ok(Value::Array(values(&list)?)),
                None => Ok(Value::Null),
            });
            lists.collect::<Result<_, Error>>()?
        }
        DataType::Struct(_) => objects(column.as_struct())?,
        DataType::Map(_, _) => maps(column.as_map())?,
        DataType::Timestamp(unit, None) => {
            // Times without a zone are UTC.
            values(&cast(
                column,
                &DataType::Timestamp(*unit, Some(UTC.into())),
            )?)?
        }
        _ => {
            let options = FormatOptions::default();
            let text = ArrayFormatter::try_new(column, &options)?;
            (0..column.len())
                .map(|row| {
                    column
                        .is_valid(row)
                        .then(|| text.value(row).to_string())
                        .into()
                })
                .collect()
        }
    })
}

fn objects(column: &StructArray) -> Result<Vec<Value>, Error> {
    let parts = column.columns().iter().map(values);
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let object = |row: usize| {
        let names = column.column_names().into_iter().map(str::to_owned);
        let parts = parts.iter().map(|part| part[row].clone());
        Value::Object(names.zip(parts).collect())
    };
    Ok(rows_of(column, object))
}

fn maps(column: &MapArray) -> Result<Vec<Value>, Error> {
    let (keys, values) = (values(column.keys())?, values(column.values())?);
    let key = |at: usize| match &keys[at] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let object = |row: usize| {
        let offsets = column.value_offsets();
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        Value::Object(entries.map(|at| (key(at), values[at].clone())).collect())
    };
    Ok(rows_of(column, object))
}

fn rows_of(column: &dyn Array, value: impl Fn(usize) -> Value) -> Vec<Value> {
    let rows = 0..column.len();
    rows.map(|row| {
        if column.is_valid(row) {
            value(row)
        } else {
            Value::Null
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder};
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_and_columns_mean_the_same() {
        let columns = to_batch(json!({"id": [1, 2], "x": [1, 2.5], "t": ["a", null]})).unwrap();
        let rows = to_batch(json!([{"id": 1, "x": 1, "t": "a"}, {"id": 2, "x": 2.5}])).unwrap();
        assert_eq!(from_batch(&columns).unwrap(), from_batch(&rows).unwrap());
        assert_eq!(
            rows.column_by_name("id").unwrap().data_type(),
            &DataType::Int64
        );
        assert!(to_batch(json!({"a": [1], "b": [1, 2]})).is_err());
        assert!(to_batch(json!({"a": [1, "x"]})).is_err());
        assert!(to_batch(json!("a")).is_err());
    }

    #[test]
    fn maps_and_structs_are_objects() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        map.keys().append_value("a: b");
        map.values().append_value(1);
        map.append(true).unwrap();
        map.append(false).unwrap();
        let map: ArrayRef = Arc::new(map.finish());
        assert_eq!(values(&map).unwrap(), [json!({"a: b": 1}), Value::Null]);
        let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let both = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int64, true)), x)]);
        let both: ArrayRef = Arc::new(both);
        assert_eq!(
            values(&both).unwrap(),
            [json!({"x": 1}), json!({"x": null})]
        );
    }

    #[test]
    fn rows_of_few_values_do_not_become_columns_of_many() {
        let sparse = |count: usize| {
            let rows = (0..count).map(|n| {
                let name = format!("c{n}");
                json!({ name: n })
            });
            to_batch(rows.collect())
        };
        assert_eq!(sparse(1_000).unwrap().num_columns(), 1_000);
        let refused = sparse(2_000).unwrap_err().to_string();
        assert!(refused.contains("most rows have none"), "{refused}");
        let wide = (0..=MOST_COLUMNS).map(|n| (format!("c{n}"), json!(n)));
        let wide: Map<String, Value> = wide.collect();
        let refused = to_batch(json!([wide])).unwrap_err().to_string();
        assert!(refused.contains("10000 columns"), "{refused}");
        let wide = wide.into_iter().map(|(name, value)| (name, json!([value])));
        assert!(to_batch(Value::Object(wide.collect())).is_err());
        let some = to_batch(json!([{"a": 1}, {}, {"b": 2}, {}])).unwrap();
        let expected = json!({"a": [1, null, null, null], "b": [null, null, 2, null]});
        assert_eq!(Value::Object(from_batch(&some).unwrap()), expected);
    }

    #[test]
    fn a_single_float_is_written_as_short_as_it_is() {
        let column: ArrayRef = Arc::new(arrow_array::Float32Array::from(vec![0.1, f32::NAN]));
        assert_eq!(values(&column).unwrap(), [json!(0.1), Value::Null]);
    }
}
