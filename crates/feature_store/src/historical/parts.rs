//! Reads of many entity rows: some of them after the others, each part at the same snapshots, so that
//! no more memory is needed than for one part.

use arrow_array::RecordBatch;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::range::HistoricalRange;
use super::read::Historical;
use super::request::HistoricalRequest;
use crate::FeatureStore;
use crate::answers;
use crate::error::Error;

/// About how many bytes a part may take. The views are read once for each: fewer parts take less time.
const PART_BYTES: usize = 256 * 1024 * 1024;

/// What an entity row takes beside its values: its places by time and key, the newest row of the view
/// so far, and where its values are.
const ROW_BYTES: usize = 128;

/// How often the values of a row are there at once: two rows are kept where one is the newest, and
/// those of views that were read before wait for the others.
const COPIES: usize = 3;

impl FeatureStore {
    /// Joins features to entity rows as [`FeatureStore::historical`] does; the rows come one batch
    /// after the other. Functions of on-demand views are given all rows at once: with one of those
    /// there is one part.
    ///
    /// # Errors
    /// As there; once the first batch has come, in the place of a later one.
    pub async fn historical_in_parts(
        &self,
        request: HistoricalRequest,
    ) -> Result<HistoricalRange, Error> {
        let rows = if request.views.on_demand.is_empty() {
            rows_a_part(self.width(&request).await?)
        } else {
            request.entities.len()
        };
        self.in_parts_of(request, rows).await
    }

    async fn in_parts_of(
        &self,
        mut request: HistoricalRequest,
        rows: usize,
    ) -> Result<HistoricalRange, Error> {
        let count = request.entities.len();
        let first = self.historical(part(&request, 0, rows)).await?;
        let mut found = first.into_batches();
        if count <= rows {
            return Ok(found);
        }
        let snapshots = found.about.snapshots.iter();
        for (used, (_, _, snapshot)) in request.views.views.iter_mut().zip(snapshots) {
            used.pin(*snapshot);
        }
        // What is held for a part is held until the part is gone.
        found.about.held = None;
        let store = self.clone();
        let others = stream::iter((rows..count).step_by(rows)).then(move |start| {
            let (store, part) = (store.clone(), part(&request, start, rows));
            async move { Ok::<_, Error>(store.historical(part).await?.into_batches().batches) }
        });
        found.batches = found.batches.chain(others.try_flatten()).boxed();
        Ok(found)
    }
}

impl Historical {
    /// The rows one batch after the other, and the rest without them.
    pub(super) fn into_batches(mut self) -> HistoricalRange {
        let none = RecordBatch::new_empty(self.rows.schema());
        let rows = std::mem::replace(&mut self.rows, none);
        HistoricalRange {
            batches: answers::batches(rows, self.held.clone()),
            about: self,
        }
    }
}

/// How many entity rows a part has whose features take `width` bytes a row.
fn rows_a_part(width: usize) -> usize {
    let row = width.saturating_mul(COPIES).saturating_add(ROW_BYTES);
    (PART_BYTES / row).max(1)
}

/// The same read for some of the entity rows.
fn part(request: &HistoricalRequest, start: usize, rows: usize) -> HistoricalRequest {
    HistoricalRequest {
        entities: request.entities.slice(start, rows),
        views: request.views.clone(),
        full_feature_names: request.full_feature_names,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::{Array as _, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow_select::concat::concat_batches;

    use super::*;
    use crate::dtype::{Dtype, Scalar};
    use crate::historical::{EntityRows, ViewUse, Views};
    use crate::table::TableRef;
    use crate::{Config, MIGRATIONS, NewFeatureView};

    fn rows(count: i64, x: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![x; count as usize]));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![x; count as usize]));
        RecordBatch::try_from_iter([("id", ids), ("x", values), ("at", times)]).unwrap()
    }

    fn view(table: &TableRef) -> NewFeatureView {
        NewFeatureView {
            name: "v".to_owned(),
            entities: vec!["id".to_owned()],
            join_keys: None,
            features: vec![("x".to_owned(), Dtype::Scalar(Scalar::Int64))],
            table: table.clone(),
            timestamp_field: Some("at".to_owned()),
            created_timestamp_column: None,
            field_mapping: BTreeMap::new(),
            ttl_seconds: None,
            online: false,
            tags: BTreeMap::new(),
            description: String::new(),
            owner: String::new(),
        }
    }

    fn entities() -> EntityRows {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..25).rev()));
        let times = ["1970-01-01T00:00:01", "1970-01-01", "x"];
        let times = (0..25).map(|n| (n != 13).then_some(times[n % 2]));
        let times: ArrayRef = Arc::new(times.collect::<StringArray>());
        let columns = [("id", ids, false), ("event_timestamp", times, true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        EntityRows::new(batch).unwrap()
    }

    #[tokio::test]
    async fn parts_are_what_is_read_at_once_though_the_table_grows_meanwhile() {
        let db = db::testing::sqlite(&[MIGRATIONS]).await;
        let dir = tempfile::tempdir().unwrap();
        let store = FeatureStore::new((*db).clone(), &Config::default(), dir.path()).unwrap();
        let table = TableRef::parse_uri("iceberg://gold/t").unwrap();
        store.catalogs.append(&table, rows(20, 7)).await.unwrap();
        let made = store.create_feature_view(view(&table), 0).await.unwrap();
        let mut used = ViewUse::new(made.view, "v".to_owned());
        used.features = vec!["x".to_owned()];
        let request = HistoricalRequest {
            entities: entities(),
            views: Views {
                views: vec![used],
                on_demand: Vec::new(),
            },
            full_feature_names: false,
        };
        let whole = store.historical(request.clone()).await.unwrap();
        assert_eq!(whole.rows.num_rows(), 25);
        let mut parts = store.in_parts_of(request.clone(), 10).await.unwrap();
        assert!(parts.about.held.is_none());
        let first = parts.batches.try_next().await.unwrap().unwrap();
        store.catalogs.append(&table, rows(25, 8)).await.unwrap();
        let mut all = vec![first];
        all.extend(parts.batches.try_collect::<Vec<_>>().await.unwrap());
        let lengths: Vec<usize> = all.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(lengths, [10, 10, 5]);
        let schema = whole.rows.schema();
        assert_eq!(concat_batches(&schema, &all).unwrap(), whole.rows);
        let now = store.historical_in_parts(request.clone()).await.unwrap();
        assert_ne!(now.about.snapshots, whole.snapshots);
        let now: Vec<RecordBatch> = now.batches.try_collect().await.unwrap();
        assert_ne!(concat_batches(&schema, &now).unwrap(), whole.rows);
        // Of a table that had no rows when the read began.
        let mut request = request;
        request.views.views[0].pin(None);
        let none = store.historical(request).await.unwrap();
        assert_eq!(none.rows["x"].null_count(), 25);
        assert_eq!(none.snapshots[0].2, None);
    }

    #[test]
    fn wide_rows_are_read_in_smaller_parts() {
        assert!(rows_a_part(120) > 500_000);
        assert!(rows_a_part(12_000) < 10_000);
        assert_eq!(rows_a_part(usize::MAX), 1);
    }
}
