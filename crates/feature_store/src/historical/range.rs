//! Features without entity rows: what the tables hold between two times.
//!
//! Of one view: each of its rows, as it stands in the table, so that the answer may be longer than
//! memory. Of several: each time at which one of them has a row, once for each entity, with the
//! features of all as they were known then (the SQL stores of Feast do the same).

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::columns::Columns;
use super::read::Historical;
use super::request::{HistoricalRequest, ViewUse, Views};
use super::scan::{Only, Scan, Times};
use super::spine;
use super::widths::{UNKNOWN_LIST_BYTES, of_row};
use crate::FeatureStore;
use crate::answers::bytes_of;
use crate::dtype::UTC;
use crate::error::Error;
use crate::table;

/// The names that Feast gives the times of rows.
pub(super) const EVENT_TIMESTAMP: &str = "event_timestamp";
const CREATED_TIMESTAMP: &str = "created_timestamp";

/// How far back a read without a start goes when no view has a ttl: as Feast's, 30 days.
const DEFAULT_SPAN_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// A read of all that lies between two times, both inclusive, in microseconds.
#[derive(Debug, Clone)]
pub struct RangeRequest {
    pub views: Views,
    /// Absent: the longest ttl of the views before the end.
    pub start_us: Option<i64>,
    pub end_us: i64,
    pub full_feature_names: bool,
    /// How many of the rows will be kept at once; none where they go as they come.
    pub kept_rows: usize,
}

/// The answer of a read whose rows come one batch after the other.
pub struct HistoricalRange {
    pub batches: BoxStream<'static, Result<RecordBatch, Error>>,
    /// What was read, without rows; what is held for them is held for as long as this is kept too.
    pub about: Historical,
}

impl HistoricalRange {
    /// The columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.about.rows.schema()
    }
}

impl RangeRequest {
    /// The times that are read.
    fn span(&self) -> Result<(i64, i64), Error> {
        let ttls = self.views.views.iter().filter_map(|used| used.view.ttl_us);
        let start = self.start_us.unwrap_or_else(|| {
            let back = ttls.max().unwrap_or(DEFAULT_SPAN_US);
            self.end_us.saturating_sub(back)
        });
        if start > self.end_us {
            return Err(Error::Invalid(
                "start_date is later than end_date".to_owned(),
            ));
        }
        Ok((start, self.end_us))
    }
}

impl FeatureStore {
    /// Reads the features of all rows between two times.
    ///
    /// # Errors
    /// When no view is named, the views are of different entities, or a table cannot be read.
    pub async fn historical_range(&self, request: RangeRequest) -> Result<HistoricalRange, Error> {
        let span = request.span()?;
        let full_feature_names = request.full_feature_names;
        let mut views = request.views;
        match views.views.as_slice() {
            [] => return Err(Error::nothing_asked()),
            [only] if views.on_demand.is_empty() => {
                let kept_rows = request.kept_rows;
                return self
                    .rows_between(only, span, full_feature_names, kept_rows)
                    .await;
            }
            _ => {}
        }
        let entities = spine::between(self, &mut views.views, span).await?;
        let rows = entities.len();
        let held = self.requests.hold(bytes_of(&entities.batch)).await?;
        let join = HistoricalRequest {
            entities,
            views,
            full_feature_names,
        };
        if request.kept_rows > 0 {
            if rows > request.kept_rows {
                return Err(Error::too_many_in_json(request.kept_rows));
            }
            // All of it is kept: what is held for it is too.
            return Ok(self.historical(join).await?.into_batches());
        }
        let found = self.historical_in_parts(join).await?;
        let batches = found.batches.inspect(move |_| {
            // The entity rows that are not joined yet.
            let _held = &held;
        });
        Ok(HistoricalRange {
            batches: batches.boxed(),
            about: found.about,
        })
    }

    /// The rows of one view, one after the other.
    async fn rows_between(
        &self,
        used: &ViewUse,
        (first, last): (i64, i64),
        full: bool,
        kept_rows: usize,
    ) -> Result<HistoricalRange, Error> {
        let name = used.view.table()?;
        let table = self.catalogs.table(name).await?;
        let columns = Columns::find(used, name, &table::columns(&table))?;
        let times = Times {
            column: &columns.timestamp,
            first,
            last,
        };
        let only = Only {
            snapshot: used.snapshot,
            files: None,
        };
        let scan = Scan::plan(name, &table, &columns.all(), Some(&times), only).await?;
        let answer = Arc::new(Answer::new(used, &columns, full)?);
        let (schema, from) = (&answer.schema, &answer.columns);
        let width = of_row(name, &table, scan.snapshot_id, schema, from).await?;
        let width = width.unwrap_or(from.len() * UNKNOWN_LIST_BYTES);
        // Twice, for a moment: as they came and put together.
        let kept = width.saturating_mul(2 * scan.rows.min(kept_rows));
        let bytes = scan.bytes_at_once().saturating_add(kept);
        let held = self.answers.hold(bytes).await?;
        let about = Historical {
            rows: RecordBatch::new_empty(answer.schema.clone()),
            snapshots: vec![(used.alias.clone(), name.clone(), scan.snapshot_id)],
            views: vec![(used.view.project.clone(), used.view.name.clone())],
            held: Some(held.clone()),
        };
        let batches = scan.into_stream().map(move |batch| {
            let _held = &held;
            answer.of(&batch?)
        });
        Ok(HistoricalRange {
            batches: batches.boxed(),
            about,
        })
    }
}

/// What becomes of a view's rows: which column of the table stands where, under which name.
struct Answer {
    schema: SchemaRef,
    columns: Vec<String>,
}

impl Answer {
    fn new(used: &ViewUse, columns: &Columns, full: bool) -> Result<Self, Error> {
        let view = &used.view;
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()));
        let mut found = vec![(EVENT_TIMESTAMP.to_owned(), time.clone(), &columns.timestamp)];
        if let Some(created) = &columns.created {
            found.push((CREATED_TIMESTAMP.to_owned(), time, created));
        }
        let keys = view.join_keys.iter().zip(&columns.keys);
        for ((key, column), kind) in keys.zip(&columns.key_types) {
            found.push((used.key_name(key).clone(), kind.clone(), column));
        }
        for (feature, column) in used.features.iter().zip(&columns.features) {
            let there = columns.schema.field_with_name(feature)?.data_type();
            let kind = view.feature(feature)?.dtype.arrow_type();
            let mut name = used.answer_name(feature, full);
            if found.iter().any(|(taken, ..)| *taken == name) {
                name.push_str("__");
            }
            found.push((name, kind.unwrap_or_else(|| there.clone()), column));
        }
        let fields = found
            .iter()
            .map(|(name, kind, _)| Field::new(name, kind.clone(), true));
        Ok(Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            columns: found.iter().map(|(.., column)| (*column).clone()).collect(),
        })
    }

    fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        // A value that its declared type cannot hold is an error of the read, never a null.
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let columns = self
            .columns
            .iter()
            .zip(self.schema.fields())
            .map(|(from, field)| {
                let column = batch.column_by_name(from).ok_or_else(|| {
                    arrow_schema::ArrowError::SchemaError(format!(
                        "the scan gave no column {from:?}"
                    ))
                })?;
                cast_with_options(column, field.data_type(), &options).map_err(Error::value(
                    format!(
                        "{:?} holds a value that its declared type cannot",
                        field.name()
                    ),
                ))
            });
        let columns: Vec<ArrayRef> = columns.collect::<Result<_, Error>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::{Int64Array, TimestampMicrosecondArray};

    use super::*;
    use crate::dtype::{Dtype, Scalar};
    use crate::feature_view::FeatureView;
    use crate::table::TableRef;
    use crate::{Config, MIGRATIONS, NewFeatureView, proto};

    #[tokio::test]
    async fn what_is_read_between_two_times_holds_memory_until_all_of_it_is_there() {
        const ROWS: i64 = 500_000;
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        // What does not repeat takes room in a file.
        let values = (0..ROWS).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..ROWS));
        let columns = [("id", values.clone()), ("x", values), ("at", times)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let table = TableRef::parse_uri("iceberg://gold/t").unwrap();
        store.catalogs.append(&table, rows).await.unwrap();
        let view = NewFeatureView {
            name: "v".to_owned(),
            entities: vec!["id".to_owned()],
            join_keys: None,
            features: vec![("x".to_owned(), Dtype::Scalar(Scalar::Int64))],
            table,
            timestamp_field: Some("at".to_owned()),
            created_timestamp_column: None,
            field_mapping: BTreeMap::new(),
            ttl_seconds: None,
            online: false,
            tags: BTreeMap::new(),
            description: String::new(),
            owner: String::new(),
        };
        let view = store.create_feature_view(view, 0).await.unwrap().view;
        let mut used = ViewUse::new(view, "v".to_owned());
        used.features = vec!["x".to_owned()];
        let free = store.answers.free_bytes();
        for kept_rows in [0, 10_000] {
            let request = RangeRequest {
                views: Views {
                    views: vec![used.clone()],
                    on_demand: Vec::new(),
                },
                start_us: Some(0),
                end_us: ROWS,
                full_feature_names: false,
                kept_rows,
            };
            let mut found = store.historical_range(request).await.unwrap();
            let held = free - store.answers.free_bytes();
            assert!(held >= 8 << 20, "{held} of {kept_rows}");
            let (mut rows, mut free_between) = (0, 0);
            while let Some(batch) = found.batches.next().await {
                rows += batch.unwrap().num_rows();
                free_between = free_between.max(store.answers.free_bytes());
            }
            assert_eq!((rows as i64, free - free_between), (ROWS, held));
            drop(found);
            assert_eq!(store.answers.free_bytes(), free);
        }
    }

    #[test]
    fn without_a_start_the_span_is_the_longest_ttl_or_thirty_days() {
        const DAY_US: i64 = 24 * 3600 * 1_000_000;
        let view = |days: Option<i64>| {
            let spec = Some(proto::FeatureViewSpec::default());
            let view = FeatureView::from_proto(&proto::FeatureView { spec, meta: None }).unwrap();
            let ttl_us = days.map(|days| days * DAY_US);
            ViewUse::new(FeatureView { ttl_us, ..view }, "v".to_owned())
        };
        let span = |ttls: &[Option<i64>], start_us| {
            let request = RangeRequest {
                views: Views {
                    views: ttls.iter().copied().map(view).collect(),
                    on_demand: Vec::new(),
                },
                start_us,
                end_us: 100 * DAY_US,
                full_feature_names: false,
                kept_rows: 0,
            };
            request.span().map(|(first, _)| first / DAY_US)
        };
        assert_eq!(span(&[Some(1), Some(7), None], None).unwrap(), 93);
        assert_eq!(span(&[None, None], None).unwrap(), 70);
        assert_eq!(span(&[Some(1)], Some(2 * DAY_US)).unwrap(), 2);
        assert!(span(&[None], Some(101 * DAY_US)).is_err());
    }
}
