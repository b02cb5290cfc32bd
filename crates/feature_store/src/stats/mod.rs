//! What a view's table holds, feature by feature: how fresh, how complete, how spread. Two passes
//! over the table, in memory that does not grow with it.

mod histogram;
mod seen;

pub(crate) use histogram::Histogram;

use std::sync::Arc;

use arrow_array::RecordBatch;
use serde_json::Value;

use crate::FeatureStore;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::historical::{Columns, Only, Scan, ViewUse};
use crate::registry::PROJECT;
use crate::table::{self, TableRef};
use histogram::Bins;
use seen::{Kind, Pass};

/// The table behind a view.
#[derive(Debug, Clone)]
pub struct ViewStats {
    pub view: String,
    pub table: TableRef,
    pub snapshot_id: Option<i64>,
    /// When the snapshot was made, in epoch milliseconds.
    pub snapshot_at: Option<i64>,
    pub rows: u64,
    /// Rows that no entity finds: a join key is null.
    pub rows_without_key: u64,
    pub rows_without_time: u64,
    /// The times of the first and the last event, in epoch microseconds.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
    pub features: Vec<FeatureStats>,
    /// Entities in the online store.
    pub online_entities: usize,
    /// The snapshot that the online store was last loaded from.
    pub online_snapshot_id: Option<i64>,
}

/// The values of one feature.
#[derive(Debug, Clone)]
pub struct FeatureStats {
    pub name: String,
    pub dtype: Dtype,
    pub nulls: u64,
    /// Floats that are NaN or infinite; they count for nothing else.
    pub not_finite: u64,
    pub min: Value,
    pub max: Value,
    pub mean: Option<f64>,
    pub histogram: Option<Histogram>,
    /// The most frequent texts or truth values.
    pub top: Vec<(String, u64)>,
    /// Whether there are more different ones than are counted, so that a frequent one may be missing.
    pub top_is_partial: bool,
    /// How many different ones there are, unless they are too many to count.
    pub distinct: Option<usize>,
}

impl FeatureStore {
    /// Looks at all rows of a view's table, at its newest snapshot or at another.
    ///
    /// # Errors
    /// When the view is not there, or its table cannot be read.
    pub async fn stats(
        &self,
        name: &str,
        snapshot: Option<i64>,
        bins: usize,
    ) -> Result<ViewStats, Error> {
        let view = self.feature_view(PROJECT, name).await?;
        let mut used = ViewUse::new(view, name.to_owned());
        used.features = used.view.features.iter().map(|f| f.name.clone()).collect();
        let table_name = used.view.table()?;
        let table = self.catalogs.table(table_name).await?;
        let columns = Columns::find(&used, table_name, &table::columns(&table))?;
        let snapshot = snapshot.or(table.metadata().current_snapshot_id());
        let kinds: Arc<[Kind]> = used
            .view
            .features
            .iter()
            .map(|f| Kind::of(f.dtype))
            .collect();
        let scan = || async {
            let only = Only {
                snapshot,
                files: None,
            };
            Scan::plan(table_name, &table, &columns.all(), None, only).await
        };
        let first = Pass::new(&columns, kinds.clone());
        let each = |pass: &mut Pass, batch: RecordBatch, _| pass.push(&batch);
        let new = {
            let first = first.clone();
            move || first.clone()
        };
        let passes = scan().await?.in_parallel(new, each).await?;
        let whole = passes.into_iter().fold(first, Pass::merge);
        let bins = Bins::new(&whole, &columns, kinds, bins);
        let bins = if bins.is_empty() {
            bins
        } else {
            let each = |bins: &mut Bins, batch: RecordBatch, _| bins.push(&batch);
            let new = {
                let bins = bins.clone();
                move || bins.clone()
            };
            let parts = scan().await?.in_parallel(new, each).await?;
            parts.into_iter().fold(bins, Bins::merge)
        };
        let online = self.online.rows(PROJECT, name).await?;
        let about = online.about().clone();
        let bookmark = about.is_of(&used.view).then_some(about.bookmark).flatten();
        let found = snapshot.and_then(|id| table.metadata().snapshot_by_id(id));
        Ok(ViewStats {
            view: name.to_owned(),
            table: table_name.clone(),
            snapshot_id: snapshot,
            snapshot_at: found.map(|snapshot| snapshot.timestamp_ms()),
            rows: whole.rows,
            rows_without_key: whole.without_key,
            rows_without_time: whole.without_time,
            first_us: whole.times.map(|(first, _)| first),
            last_us: whole.times.map(|(_, last)| last),
            online_entities: self.online.count(&online, &used.view).await?,
            online_snapshot_id: bookmark.map(|bookmark| bookmark.snapshot_id),
            features: whole.told(&used, bins),
        })
    }
}
