//! Rows as JSON, `{"columns": [...], "data": {"column": [values]}, ...}`, written as they are sent:
//! the text is many times as large as the rows.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::stream::{in_background, sent};
use crate::FeatureStore;
use crate::answers::{Held, bytes_of, column_bytes};
use crate::error::Error;
use crate::json;

/// How many rows of a column are written at a time, and about how many bytes of them.
const WRITTEN_ROWS: usize = 16_384;
const WRITTEN_BYTES: usize = 1024 * 1024;

/// An answer of so few values, and of so few bytes, is written at once.
const FEW_VALUES: usize = 65_536;
const FEW_BYTES: usize = 4 * 1024 * 1024;

/// The rows, with what is said behind them and the memory that is held for them.
pub(super) struct JsonAnswer {
    pub(super) rows: RecordBatch,
    pub(super) _held: Option<Arc<Held>>,
    pub(super) behind: Map<String, Value>,
}

/// What is written next.
#[derive(Clone, Copy)]
struct Place {
    column: usize,
    row: usize,
}

impl JsonAnswer {
    /// # Errors
    /// When a column is of a type that cannot be written.
    pub(super) async fn body(self, store: &FeatureStore) -> Result<Body, Error> {
        // What cannot be written is an answer of its own.
        json::from_batch(&self.rows.slice(0, 0))?;
        let (rows, columns) = (self.rows.num_rows(), self.rows.num_columns());
        let begun = (self, Some(Place { column: 0, row: 0 }));
        let is_small = rows.saturating_mul(columns) <= FEW_VALUES;
        if is_small && bytes_of(&begun.0.rows) <= FEW_BYTES {
            let whole = in_background(move || {
                let (answer, mut next) = begun;
                let mut text = Vec::new();
                while let Some(place) = next {
                    next = answer.write(place, &mut text)?;
                }
                Ok(text)
            });
            return Ok(whole.await?.into());
        }
        let parts = stream::try_unfold(begun, |(answer, next)| async move {
            let Some(place) = next else { return Ok(None) };
            let written = in_background(move || {
                let mut text = Vec::new();
                let next = answer.write(place, &mut text)?;
                Ok((Bytes::from(text), (answer, next)))
            });
            written.await.map(Some)
        });
        Ok(sent(store, parts))
    }

    /// Writes some values of a column, and what stands before and behind them.
    fn write(&self, place: Place, text: &mut Vec<u8>) -> Result<Option<Place>, Error> {
        let schema = self.rows.schema();
        if place.column == 0 && place.row == 0 {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            text.extend(format!("{{\"columns\":{},\"data\":{{", json!(names)).into_bytes());
        }
        let count = self.rows.num_rows();
        let Some(column) = self.rows.columns().get(place.column) else {
            text.extend(format!("}},\"row_count\":{count}").into_bytes());
            for (name, value) in &self.behind {
                text.extend(format!(",{}:{value}", json!(name)).into_bytes());
            }
            text.push(b'}');
            return Ok(None);
        };
        if place.row == 0 {
            let before = if place.column == 0 { "" } else { "," };
            let name = json!(schema.field(place.column).name());
            text.extend(format!("{before}{name}:[").into_bytes());
        }
        let length = written_rows(column).min(count - place.row);
        for (index, value) in json::values(&column.slice(place.row, length))?
            .iter()
            .enumerate()
        {
            if place.row + index > 0 {
                text.push(b',');
            }
            text.extend(value.to_string().into_bytes());
        }
        let row = place.row + length;
        if row < count {
            return Ok(Some(Place { row, ..place }));
        }
        text.push(b']');
        Ok(Some(Place {
            column: place.column + 1,
            row: 0,
        }))
    }
}

/// How many rows of a column are written at a time.
fn written_rows(column: &ArrayRef) -> usize {
    let row_bytes = column_bytes(column) / column.len().max(1);
    (WRITTEN_BYTES / row_bytes.max(1)).clamp(1, WRITTEN_ROWS)
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Float32Type;
    use arrow_array::{FixedSizeListArray, Int64Array, StringArray};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{Config, MIGRATIONS};

    #[tokio::test]
    async fn an_answer_in_parts_is_the_same_as_one_at_once() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        for count in [0, 1, WRITTEN_ROWS, 3 * WRITTEN_ROWS + 1, FEW_VALUES] {
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
            let texts = (0..count).map(|n| (n % 2 == 0).then_some("\"text\""));
            let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
            let rows = RecordBatch::try_from_iter([("b\"", numbers), ("a", texts)]).unwrap();
            let expected = json!({
                "columns": ["b\"", "a"],
                "data": json::from_batch(&rows).unwrap(),
                "row_count": count,
                "snapshots": {"v": 7},
            });
            let answer = JsonAnswer {
                rows,
                _held: None,
                behind: Map::from_iter([("snapshots".to_owned(), json!({"v": 7}))]),
            };
            let body = answer.body(&store).await.unwrap();
            let text = body.collect().await.unwrap().to_bytes();
            let found: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(found, expected);
        }
        let none = JsonAnswer {
            rows: RecordBatch::new_empty(Arc::new(arrow_schema::Schema::empty())),
            _held: None,
            behind: Map::new(),
        };
        let text = none.body(&store).await.unwrap().collect().await.unwrap();
        let text: Value = serde_json::from_slice(&text.to_bytes()).unwrap();
        assert_eq!(text, json!({"columns": [], "data": {}, "row_count": 0}));
    }

    #[test]
    fn wide_values_are_written_few_at_a_time() {
        const WIDE: i32 = 1_536;
        let value = Some(vec![Some(1.0); WIDE as usize]);
        let lists =
            FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vec![value; 500], WIDE);
        let lists: ArrayRef = Arc::new(lists);
        assert!((100..200).contains(&written_rows(&lists)));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1; 10]));
        assert_eq!(written_rows(&numbers), WRITTEN_ROWS);
        let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        assert_eq!(written_rows(&none), WRITTEN_ROWS);
    }
}
