//! The rows that features are asked for, and their times.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Date64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::dtype::UTC;
use crate::error::Error;

/// The column that holds the time of an entity row.
const TIMESTAMP: &str = "event_timestamp";

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// Entity rows: key columns, a time, and whatever else the caller wants to keep beside them.
#[derive(Debug, Clone)]
pub struct EntityRows {
    pub(crate) batch: RecordBatch,
    pub(crate) moments: Moments,
}

/// A time for each row, in whole microseconds, and whether it is a fraction of one later.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) us: Vec<i64>,
    fraction: Vec<bool>,
    /// A row without a time is before everything: no value was known.
    pub(crate) known: Vec<bool>,
}

impl Moments {
    /// How many microseconds, rounded up, have passed at `row` since `then`, which is not later.
    pub(crate) fn age(&self, row: usize, then: i64) -> i64 {
        let whole = self.us[row].saturating_sub(then);
        whole.saturating_add(i64::from(self.fraction.get(row).copied().unwrap_or(false)))
    }
}

impl EntityRows {
    /// Some of the rows, as many as there are from `start` on.
    pub(super) fn slice(&self, start: usize, rows: usize) -> Self {
        let range = start..self.len().min(start.saturating_add(rows));
        Self {
            batch: self.batch.slice(start, range.len()),
            moments: Moments {
                us: self.moments.us[range.clone()].to_vec(),
                fraction: self
                    .moments
                    .fraction
                    .get(range.clone())
                    .unwrap_or_default()
                    .to_vec(),
                known: self.moments.known[range].to_vec(),
            },
        }
    }

    /// Takes a table of entity rows. The time is in `event_timestamp`, else in the only column
    /// of times; times without a zone are UTC; text is read as ISO 8601. An index that pandas
    /// put among the columns is dropped.
    ///
    /// # Errors
    /// When there is no such column, or a text in it is no time.
    pub fn new(batch: RecordBatch) -> Result<Self, Error> {
        let batch = without_index(&batch)?;
        let schema = batch.schema();
        let index = timestamp_column(&schema)?;
        let moments = moments(schema.field(index).name(), batch.column(index))?;
        let times = TimestampMicrosecondArray::from_iter(
            moments
                .us
                .iter()
                .zip(&moments.known)
                .map(|(us, known)| known.then_some(*us)),
        );
        let mut columns = batch
            .columns()
            .iter()
            .map(in_utc)
            .collect::<Result<Vec<_>, _>>()?;
        columns[index] = Arc::new(times.with_timezone(UTC));
        let fields = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        Ok(Self {
            batch: RecordBatch::try_new(Arc::new(schema), columns)?,
            moments,
        })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn column_names(&self) -> Vec<String> {
        self.batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect()
    }
}

/// pandas writes an index that is more than a count of rows as a column, and its name into the
/// metadata.
fn without_index(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let schema = batch.schema();
    let pandas = schema
        .metadata()
        .get("pandas")
        .map(String::as_str)
        .unwrap_or("{}");
    let pandas: serde_json::Value = serde_json::from_str(pandas).unwrap_or_default();
    let index: Vec<&str> = pandas
        .get("index_columns")
        .and_then(|v| v.as_array())
        .map(|names| names.iter().filter_map(|name| name.as_str()).collect())
        .unwrap_or_default();
    let keep: Vec<usize> = (0..schema.fields().len())
        .filter(|i| {
            let name = schema.field(*i).name().as_str();
            // A named index is one of the user's columns only if the user put it there.
            !(index.contains(&name) && name.starts_with("__index_level_"))
        })
        .collect();
    Ok(batch.project(&keep)?)
}

/// Times in another zone are the same moments in UTC.
fn in_utc(column: &ArrayRef) -> Result<ArrayRef, Error> {
    let DataType::Timestamp(unit, Some(_)) = column.data_type() else {
        return Ok(column.clone());
    };
    let kind = DataType::Timestamp(*unit, Some(UTC.into()));
    let data = column.to_data().into_builder().data_type(kind).build()?;
    Ok(arrow_array::make_array(data))
}

fn timestamp_column(schema: &Schema) -> Result<usize, Error> {
    if let Ok(index) = schema.index_of(TIMESTAMP) {
        return Ok(index);
    }
    let times: Vec<usize> = (0..schema.fields().len())
        .filter(|i| {
            let kind = schema.field(*i).data_type();
            matches!(
                kind,
                DataType::Timestamp(..) | DataType::Date32 | DataType::Date64
            )
        })
        .collect();
    match times.as_slice() {
        [only] => Ok(*only),
        _ => {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            Err(Error::Invalid(format!(
                "the entity rows have no column {TIMESTAMP:?}, which says at what time the features are wanted; their columns are: {}",
                names.join(", ")
            )))
        }
    }
}

fn moments(name: &str, column: &ArrayRef) -> Result<Moments, Error> {
    // A column of another type may have any length, and no bytes.
    let known = || (0..column.len()).map(|row| column.is_valid(row)).collect();
    let exact = |us: Vec<i64>| Moments {
        us,
        fraction: Vec::new(),
        known: known(),
    };
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = column.as_primitive::<TimestampNanosecondType>().values();
            Moments {
                us: values.iter().map(|ns| ns.div_euclid(1000)).collect(),
                fraction: values.iter().map(|ns| ns.rem_euclid(1000) != 0).collect(),
                known: known(),
            }
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => exact(
            column
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .to_vec(),
        ),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let values = column.as_primitive::<TimestampMillisecondType>().values();
            exact(values.iter().map(|ms| ms.saturating_mul(1000)).collect())
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            let values = column.as_primitive::<TimestampSecondType>().values();
            exact(values.iter().map(|s| s.saturating_mul(1_000_000)).collect())
        }
        // Not cast: times beyond those that there are would become others.
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().values().iter();
            exact(
                days.map(|days| i64::from(*days).saturating_mul(DAY_US))
                    .collect(),
            )
        }
        DataType::Date64 => {
            let values = column.as_primitive::<Date64Type>().values();
            exact(values.iter().map(|ms| ms.saturating_mul(1000)).collect())
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let target = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
            let options = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let times = cast_with_options(column, &target, &options).map_err(Error::value(
                format!("column {name:?} of the entity rows is no time"),
            ))?;
            exact(
                times
                    .as_primitive::<TimestampMicrosecondType>()
                    .values()
                    .to_vec(),
            )
        }
        other => {
            return Err(Error::Invalid(format!(
                "column {name:?} of the entity rows is {other}, not a time; in pandas: pd.to_datetime(df[{name:?}])"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        Date32Array, Date64Array, Int64Array, NullArray, StringArray, TimestampNanosecondArray,
    };

    use super::*;

    fn rows(name: &str, column: ArrayRef) -> Result<EntityRows, Error> {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1; column.len()]));
        EntityRows::new(RecordBatch::try_from_iter([("id", keys), (name, column)]).unwrap())
    }

    #[test]
    fn text_without_a_zone_is_utc() {
        let text = StringArray::from(vec![
            "2025-11-03",
            "2025-11-03T01:00:00",
            "2025-11-03T02:00:00+01:00",
        ]);
        let rows = rows("event_timestamp", Arc::new(text)).unwrap();
        let midnight = 1_762_128_000_000_000;
        let hour = 3_600_000_000;
        assert_eq!(
            rows.moments.us,
            [midnight, midnight + hour, midnight + hour]
        );
    }

    #[test]
    fn a_fraction_of_a_microsecond_counts_towards_the_age_only() {
        let rows = rows(
            "when",
            Arc::new(TimestampNanosecondArray::from(vec![1_001, 1_000])),
        )
        .unwrap();
        assert_eq!(rows.moments.us, [1, 1]);
        assert_eq!((rows.moments.age(0, 0), rows.moments.age(1, 0)), (2, 1));
    }

    #[test]
    fn dates_are_midnights_and_none_becomes_another() {
        let at = |column: ArrayRef| rows("when", column).unwrap().moments.us;
        let days = Date32Array::from(vec![i32::MIN, -1, 20_395, i32::MAX]);
        let midnight = 1_762_128_000_000_000;
        assert_eq!(at(Arc::new(days)), [i64::MIN, -DAY_US, midnight, i64::MAX]);
        let ms = Date64Array::from(vec![i64::MIN, midnight / 1000, i64::MAX]);
        assert_eq!(at(Arc::new(ms)), [i64::MIN, midnight, i64::MAX]);
    }

    #[test]
    fn what_is_no_time_is_told() {
        let error = rows("when", Arc::new(Int64Array::from(vec![1])))
            .unwrap_err()
            .to_string();
        assert!(error.contains("their columns are: id, when"), "{error}");
        assert!(rows("event_timestamp", Arc::new(Int64Array::from(vec![1]))).is_err());
        let nulls: ArrayRef = Arc::new(NullArray::new(1 << 46));
        let nulls = RecordBatch::try_from_iter([("event_timestamp", nulls)]).unwrap();
        let error = EntityRows::new(nulls).unwrap_err().to_string();
        assert!(error.contains("is Null, not a time"), "{error}");
        let text = Arc::new(StringArray::from(vec!["soon"]));
        assert!(
            rows("event_timestamp", text)
                .unwrap_err()
                .message()
                .contains("soon")
        );
    }
}
