//! The online store in a PostgreSQL database that several servers share. The rules are those of the
//! file: every write is answered after its commit, and a row never takes the place of a newer one,
//! which the statement itself compares.

use std::collections::HashMap;

use db::Db;

use super::keeper::{About, Batch, Bookmark};
use super::row::Row;
use super::view::layout_of;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::store::online_rows::{self, OnlineRow};

/// Rows in one transaction.
const TOGETHER: usize = 5_000;

/// The shared store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared {
    db: Db,
}

impl Shared {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// What is known of a view.
    pub(crate) async fn about(&self, view: &str) -> Result<About, Error> {
        let mut conn = self.db.acquire().await?;
        let about = online_rows::find_about(&mut conn, view).await?;
        Ok(read(about.as_deref()))
    }

    /// The number of the list of features that a view has now. Servers agree on it.
    pub(crate) async fn layout(
        &self,
        name: &str,
        view: &FeatureView,
    ) -> Result<(u32, About), Error> {
        self.change(name, |about| layout_of(about, view)).await
    }

    /// Remembers how far a view's table was materialized.
    pub(crate) async fn set_bookmark(
        &self,
        name: &str,
        bookmark: Option<Bookmark>,
    ) -> Result<About, Error> {
        let changed = self.change(name, |about| about.bookmark = bookmark).await?;
        Ok(changed.1)
    }

    async fn change<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut About) -> T,
    ) -> Result<(T, About), Error> {
        let mut tx = self.db.begin().await?;
        let text = online_rows::lock_about(&mut tx, name).await?;
        let mut about = read(text.as_deref());
        let before = about.clone();
        let changed = change(&mut about);
        if about != before || text.is_none() {
            let text = serde_json::json!(about).to_string();
            online_rows::set_about(&mut tx, name, &text).await?;
        }
        tx.commit().await?;
        Ok((changed, about))
    }

    /// Writes rows, and tells how many of them were newer than what was there. Every transaction
    /// holds whole rows, so what is written when one fails is right, if not all.
    pub(crate) async fn write(&self, batch: Batch) -> Result<usize, Error> {
        let view = batch.view.name().to_owned();
        let mut newest: HashMap<Box<[u8]>, Row> = HashMap::with_capacity(batch.rows.len());
        for (key, row) in batch.rows {
            match newest.get_mut(&key) {
                Some(known) if known.stamp() > row.stamp() => {}
                Some(known) => *known = row,
                None => {
                    newest.insert(key, row);
                }
            }
        }
        // In one order everywhere, so that two servers cannot wait for each other.
        let mut rows: Vec<(Box<[u8]>, Row)> = newest.into_iter().collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut newer = 0;
        for part in rows.chunks(TOGETHER) {
            let part: Vec<OnlineRow> = part
                .iter()
                .map(|(key, row)| OnlineRow {
                    key: key.to_vec(),
                    us: row.stamp().us,
                    created: row.stamp().created,
                    row: row.bytes().to_vec(),
                })
                .collect();
            let mut tx = self.db.begin().await?;
            newer += online_rows::upsert(&mut tx, &view, &part).await?;
            tx.commit().await?;
        }
        Ok(newer as usize)
    }

    /// The rows of some keys, in their order.
    pub(crate) async fn find(
        &self,
        view: &str,
        keys: &[Option<Box<[u8]>>],
    ) -> Result<Vec<Option<Row>>, Error> {
        let mut asked: Vec<&[u8]> = keys.iter().flatten().map(AsRef::as_ref).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut conn = self.db.acquire().await?;
        let found = online_rows::find(&mut conn, view, &asked).await?;
        let found: HashMap<Vec<u8>, Row> = found
            .into_iter()
            .filter_map(|(key, row)| Some((key, Row::kept(&row)?)))
            .collect();
        let rows = keys.iter().map(|key| found.get(&**key.as_ref()?).cloned());
        Ok(rows.collect())
    }

    /// How many entities a view has.
    pub(crate) async fn count(&self, view: &str) -> Result<usize, Error> {
        let mut conn = self.db.acquire().await?;
        Ok(online_rows::count(&mut conn, view).await? as usize)
    }

    /// Removes all rows of a view. The numbers of its lists of features are never given anew:
    /// another server may still know the old ones.
    pub(crate) async fn forget(&self, view: &str) -> Result<About, Error> {
        let mut tx = self.db.begin().await?;
        let about = read(online_rows::lock_about(&mut tx, view).await?.as_deref());
        online_rows::delete(&mut tx, view).await?;
        let about = About {
            layouts: about.layouts,
            ..About::default()
        };
        let text = serde_json::json!(about).to_string();
        online_rows::set_about(&mut tx, view, &text).await?;
        tx.commit().await?;
        Ok(about)
    }
}

fn read(about: Option<&str>) -> About {
    // Only this file writes it.
    about
        .and_then(|about| serde_json::from_str(about).ok())
        .unwrap_or_default()
}
