//! Entity keys: which entity rows a row of a view is about.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float64Type;
use arrow_array::{Array as _, ArrayRef, Int64Array};
use arrow_cast::cast;
use arrow_row::{RowConverter, SortField};
use arrow_schema::DataType;

use crate::error::Error;

/// The distinct keys of the entity rows, numbered.
pub(crate) enum Keys {
    /// A view without entities: all rows are about the same.
    One,
    Whole(HashMap<i64, u32, ahash::RandomState>),
    /// Whole numbers close together, such as ids that were counted: each is its own number.
    Counted {
        first: i64,
        places: u32,
    },
    Rows {
        converter: RowConverter,
        numbers: HashMap<Box<[u8]>, u32, ahash::RandomState>,
    },
}

/// In place of the number of a key: one with a null, which is about nothing, or one that nobody asks
/// for.
pub(crate) const NO_KEY: u32 = u32::MAX;

impl Keys {
    /// Numbers the keys of the entity rows, given as columns that are named for messages and
    /// the types that the view's table has for them; gives the number of each row, or [`NO_KEY`].
    ///
    /// # Errors
    /// When a column can never equal the table's, such as text against a number.
    pub(crate) fn new(
        columns: &[(String, ArrayRef)],
        types: &[DataType],
        rows: usize,
    ) -> Result<(Self, Vec<u32>), Error> {
        if columns.is_empty() {
            return Ok((Self::One, vec![0; rows]));
        }
        let columns = columns
            .iter()
            .zip(types)
            .map(|((name, column), kind)| comparable(name, column, kind))
            .collect::<Result<Vec<_>, _>>()?;
        if let [column] = columns.as_slice()
            && column.data_type() == &DataType::Int64
        {
            let keys = whole(column.as_primitive());
            let numbers = keys.find(std::slice::from_ref(column), rows)?;
            return Ok((keys, numbers));
        }
        let fields = columns
            .iter()
            .map(|c| SortField::new(c.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let encoded = converter.convert_columns(&columns)?;
        let mut numbers = HashMap::with_hasher(ahash::RandomState::new());
        let of_rows = (0..rows).map(|row| {
            if columns.iter().any(|c| c.is_null(row)) {
                return NO_KEY;
            }
            let next = numbers.len() as u32;
            *numbers
                .entry(Box::from(encoded.row(row).data()))
                .or_insert(next)
        });
        let of_rows = of_rows.collect();
        Ok((Self::Rows { converter, numbers }, of_rows))
    }

    /// The numbers of the keys in rows of the view, or [`NO_KEY`].
    pub(crate) fn find(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>, Error> {
        Ok(match self {
            Self::One => vec![0; rows],
            Self::Whole(numbers) => {
                let column = widened(&columns[0])?;
                let number = |key| numbers.get(&key).copied().unwrap_or(NO_KEY);
                of_each(column.as_primitive(), number)
            }
            Self::Counted { first, places } => {
                let column = widened(&columns[0])?;
                let number = |key: i64| {
                    // Keys before the first wrap around to what is far behind the last.
                    let place = key.wrapping_sub(*first) as u64;
                    if place < u64::from(*places) {
                        place as u32
                    } else {
                        NO_KEY
                    }
                };
                of_each(column.as_primitive(), number)
            }
            Self::Rows { converter, numbers } => {
                let columns = columns.iter().map(widened).collect::<Result<Vec<_>, _>>()?;
                let encoded = converter.convert_columns(&columns)?;
                // A row with a null encodes to bytes that no key without one has.
                encoded
                    .iter()
                    .map(|row| numbers.get(row.data()).copied().unwrap_or(NO_KEY))
                    .collect()
            }
        })
    }
}

fn of_each(column: &Int64Array, number: impl Fn(i64) -> u32) -> Vec<u32> {
    if column.null_count() == 0 {
        return column.values().iter().map(|key| number(*key)).collect();
    }
    column
        .iter()
        .map(|key| key.map_or(NO_KEY, &number))
        .collect()
}

/// The most places for each key of [`Keys::Counted`]: with more of them a map is smaller.
const PLACES_A_KEY: usize = 4;

fn whole(column: &Int64Array) -> Keys {
    if let Some(counted) = counted(column) {
        return counted;
    }
    let mut numbers = HashMap::with_hasher(ahash::RandomState::new());
    for key in column.iter().flatten() {
        let next = numbers.len() as u32;
        numbers.entry(key).or_insert(next);
    }
    Keys::Whole(numbers)
}

fn counted(column: &Int64Array) -> Option<Keys> {
    let first = column.iter().flatten().min()?;
    let last = column.iter().flatten().max()?;
    let places = usize::try_from(last.checked_sub(first)?).ok()? + 1;
    if places / PLACES_A_KEY > column.len() {
        return None;
    }
    let places = u32::try_from(places).ok()?;
    Some(Keys::Counted { first, places })
}

/// Whole numbers as 64 bits, all else as it is.
fn widened(column: &ArrayRef) -> Result<ArrayRef, Error> {
    if column.data_type().is_integer() {
        return Ok(cast(column, &DataType::Int64)?);
    }
    Ok(column.clone())
}

/// An entity column in the type that the table's column has once [`widened`].
fn comparable(name: &str, column: &ArrayRef, table: &DataType) -> Result<ArrayRef, Error> {
    let target = if table.is_integer() {
        &DataType::Int64
    } else {
        table
    };
    let given = match column.data_type() {
        DataType::Dictionary(_, value) => (**value).clone(),
        other => other.clone(),
    };
    let alike = match (&given, target) {
        (DataType::Null, _) => true,
        // pandas makes floats of whole numbers where one is missing.
        (DataType::Float32 | DataType::Float64, DataType::Int64) => return whole_floats(column),
        (given, DataType::Int64) => given.is_integer(),
        (
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View,
            DataType::Utf8 | DataType::LargeUtf8,
        ) => true,
        (
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_),
        ) => true,
        (
            DataType::Timestamp(..) | DataType::Date32,
            DataType::Timestamp(..) | DataType::Date32,
        ) => true,
        (given, target) => given == target,
    };
    if !alike {
        return Err(Error::Invalid(format!(
            "the join key {name:?} is {given} in the entity rows but {table} in the table; convert it, in pandas: df[{name:?}].astype(...)"
        )));
    }
    Ok(cast(column, target)?)
}

/// Floats as whole numbers; one with a fraction equals no whole number.
fn whole_floats(column: &ArrayRef) -> Result<ArrayRef, Error> {
    let to_whole = |value: f64| {
        // The bounds are the floats next to those of 64 bits.
        let fits = value.fract() == 0.0 && (-9.2e18..9.2e18).contains(&value);
        fits.then_some(value as i64)
    };
    let floats = cast(column, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    let keys: Int64Array = floats.iter().map(|v| v.and_then(to_whole)).collect();
    Ok(Arc::new(keys))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int32Array, StringArray};

    use super::*;

    fn one(column: ArrayRef, table: DataType) -> Result<(Keys, Vec<u32>), Error> {
        let rows = column.len();
        Keys::new(&[("id".to_owned(), column)], &[table], rows)
    }

    #[test]
    fn whole_numbers_of_any_width_are_the_same_key() {
        let (keys, rows) = one(Arc::new(Int32Array::from(vec![7, 8, 7])), DataType::Int64).unwrap();
        assert_eq!(rows, [0, 1, 0]);
        let table: ArrayRef = Arc::new(Int64Array::from(vec![Some(8), None, Some(9)]));
        assert_eq!(keys.find(&[table], 3).unwrap(), [1, NO_KEY, NO_KEY]);
    }

    #[test]
    fn keys_far_from_each_other_are_found_as_those_close_together() {
        let extremes = vec![i64::MIN, 0, i64::MAX];
        let thin = vec![5, 6, 100];
        for given in [vec![5, 7, 8], vec![-3, -1], thin, extremes] {
            let (keys, rows) =
                one(Arc::new(Int64Array::from(given.clone())), DataType::Int64).unwrap();
            let others = vec![4, 9, i64::MIN + 1, i64::MAX - 1];
            let asked = [given, others].concat();
            let count = asked.len();
            let found = keys
                .find(&[Arc::new(Int64Array::from(asked))], count)
                .unwrap();
            assert_eq!(found, [rows, vec![NO_KEY; 4]].concat());
        }
    }

    #[test]
    fn floats_of_pandas_are_whole_numbers_unless_they_have_a_fraction() {
        let floats = Float64Array::from(vec![Some(7.0), None, Some(7.5)]);
        let (_, rows) = one(Arc::new(floats), DataType::Int32).unwrap();
        assert_eq!(rows, [0, NO_KEY, NO_KEY]);
    }

    #[test]
    fn text_is_not_a_number() {
        let text = || Arc::new(StringArray::from(vec!["7"]));
        assert!(one(text(), DataType::Int64).is_err());
        let (keys, _) = one(text(), DataType::Utf8).unwrap();
        assert_eq!(keys.find(&[text()], 1).unwrap(), [0]);
    }
}
