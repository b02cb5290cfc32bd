//! How the data files that are written here are laid out.

use std::collections::HashSet;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType, Schema};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

/// How many rows of a data file are together: a reader has all of them in memory, and each other
/// reader reads others.
const GROUP_ROWS: usize = 131_072;

/// A dictionary pays when each value stands so many times in the first rows.
const REPEATS: usize = 4;

/// How files of this schema are written, whose first rows are `sample`. Fractions and points in time
/// hardly repeat, as days do: in a row group of this size a dictionary of them would be all of them
/// once more, and slower to read.
///
/// # Errors
/// When the first rows cannot be compared.
pub(crate) fn properties(
    schema: &Schema,
    sample: Option<&RecordBatch>,
) -> Result<WriterProperties, ArrowError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS));
    for field in schema.fields() {
        let kind = field.data_type();
        if !kind.is_floating() && !matches!(kind, DataType::Timestamp(..)) {
            continue;
        }
        let values = sample.and_then(|rows| rows.column_by_name(field.name()));
        if !values.map_or(Ok(false), repeats)? {
            let path = ColumnPath::from(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    Ok(properties.build())
}

fn repeats(values: &ArrayRef) -> Result<bool, ArrowError> {
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(values))?;
    let different: HashSet<_> = rows.iter().collect();
    Ok(!values.is_empty() && different.len() * REPEATS <= values.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, TimestampMicrosecondArray};
    use arrow_schema::{Field, TimeUnit};

    use super::*;

    #[test]
    fn what_repeats_has_a_dictionary() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let kinds = [
            ("share", DataType::Float64),
            ("stars", DataType::Float64),
            ("at", time.clone()),
            ("day_at", time.clone()),
            ("later", time),
            ("day", DataType::Date32),
            ("name", DataType::Utf8),
        ];
        let fields = kinds.map(|(name, kind)| Field::new(name, kind, true));
        let schema = Schema::new(fields.to_vec());
        let floats = |part: f64| -> ArrayRef {
            let values = (0..100).map(|n| (f64::from(n) / part).floor());
            Arc::new(Float64Array::from_iter_values(values))
        };
        let times = |part: i64| -> ArrayRef {
            let values = (0..100).map(|n| n / part * part);
            Arc::new(TimestampMicrosecondArray::from_iter_values(values))
        };
        let sample = RecordBatch::try_from_iter([
            ("share", floats(1.0)),
            ("stars", floats(20.0)),
            ("at", times(1)),
            ("day_at", times(24)),
        ]);
        let with = properties(&schema, Some(&sample.unwrap())).unwrap();
        let has = |name| with.dictionary_enabled(&ColumnPath::from(name));
        assert!(has("stars") && has("day_at") && has("day") && has("name"));
        assert!(!has("share") && !has("at") && !has("later"));
        let without = properties(&schema, None).unwrap();
        assert!(!without.dictionary_enabled(&ColumnPath::from("day_at")));
    }
}
