//! The online store that several servers share: in asgard's PostgreSQL database, or in a store of the
//! Redis protocol. The rules are those of the file: a row never takes the place of a newer one, which
//! the statement or script itself compares.

use std::collections::HashMap;

use db::Db;

use super::keeper::{About, Batch, Bookmark};
use super::redis::{self, Redis};
use super::row::Row;
use super::view::layout_of;
use crate::error::Error;
use crate::feature_view::FeatureView;
use crate::store::online_rows::{self, OnlineRow};

/// Rows in one transaction.
const TOGETHER: usize = 5_000;

/// How often a change of what is known of a view is tried while others change it too.
const TRIES: usize = 100;

/// The shared store; cheap to clone.
#[derive(Clone)]
pub(crate) enum Shared {
    Database(Db),
    Redis(Redis),
}

impl Shared {
    /// What is known of a view.
    pub(crate) async fn about(&self, view: &str) -> Result<About, Error> {
        let about = match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                online_rows::find_about(&mut conn, view).await?
            }
            Self::Redis(redis) => redis.about(view).await?,
        };
        read(view, about.as_deref())
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
        let change = |about: &mut About| about.bookmark.clone_from(&bookmark);
        Ok(self.change(name, change).await?.1)
    }

    async fn change<T>(
        &self,
        name: &str,
        change: impl Fn(&mut About) -> T,
    ) -> Result<(T, About), Error> {
        match self {
            Self::Database(db) => {
                let mut tx = db.begin().await?;
                let text = online_rows::lock_about(&mut tx, name).await?;
                let (changed, about, new) = changed(name, text.as_deref(), change)?;
                if let Some(new) = new {
                    online_rows::set_about(&mut tx, name, &new).await?;
                }
                tx.commit().await?;
                Ok((changed, about))
            }
            Self::Redis(redis) => {
                for _ in 0..TRIES {
                    let text = redis.about(name).await?;
                    let (changed, about, new) = changed(name, text.as_deref(), &change)?;
                    let Some(new) = new else {
                        return Ok((changed, about));
                    };
                    if redis.swap_about(name, text.as_deref(), &new, false).await? {
                        return Ok((changed, about));
                    }
                }
                Err(contended(name))
            }
        }
    }

    /// Writes rows, and tells how many of them were newer than what was there. Every transaction
    /// holds whole rows, so what is written when one fails is right, if not all.
    pub(crate) async fn write(&self, batch: Batch) -> Result<usize, Error> {
        let view = batch.view.name().to_owned();
        let rows = newest(batch.rows);
        let mut newer = 0;
        match self {
            Self::Database(db) => {
                for part in rows.chunks(TOGETHER) {
                    let part: Vec<OnlineRow> = part.iter().map(database_row).collect();
                    let mut tx = db.begin().await?;
                    newer += online_rows::upsert(&mut tx, &view, &part).await?;
                    tx.commit().await?;
                }
            }
            Self::Redis(redis) => {
                for part in rows.chunks(redis::TOGETHER) {
                    newer += redis.upsert(&view, part).await?;
                }
            }
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
        let found: HashMap<Vec<u8>, Row> = match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                let found = online_rows::find(&mut conn, view, &asked).await?;
                let rows = found
                    .into_iter()
                    .filter_map(|(key, row)| Some((key, Row::kept(&row)?)));
                rows.collect()
            }
            Self::Redis(redis) => {
                let found = redis.find(view, &asked).await?;
                let rows = asked.iter().zip(found);
                rows.filter_map(|(key, row)| Some((key.to_vec(), row?)))
                    .collect()
            }
        };
        let rows = keys.iter().map(|key| found.get(&**key.as_ref()?).cloned());
        Ok(rows.collect())
    }

    /// How many entities a view has.
    pub(crate) async fn count(&self, view: &str) -> Result<usize, Error> {
        match self {
            Self::Database(db) => {
                let mut conn = db.acquire().await?;
                Ok(online_rows::count(&mut conn, view).await? as usize)
            }
            Self::Redis(redis) => redis.count(view).await,
        }
    }

    /// Removes all rows of a view. The numbers of its lists of features are never given anew:
    /// another server may still know the old ones.
    pub(crate) async fn forget(&self, view: &str) -> Result<About, Error> {
        match self {
            Self::Database(db) => {
                let mut tx = db.begin().await?;
                let text = online_rows::lock_about(&mut tx, view).await?;
                let (about, text) = forgotten(view, text.as_deref());
                online_rows::delete(&mut tx, view).await?;
                online_rows::set_about(&mut tx, view, &text).await?;
                tx.commit().await?;
                Ok(about)
            }
            Self::Redis(redis) => {
                for _ in 0..TRIES {
                    let before = redis.about(view).await?;
                    let (about, text) = forgotten(view, before.as_deref());
                    if redis
                        .swap_about(view, before.as_deref(), &text, true)
                        .await?
                    {
                        return Ok(about);
                    }
                }
                Err(contended(view))
            }
        }
    }
}

fn contended(view: &str) -> Error {
    Error::Busy(format!(
        "other servers change what is known of '{view}' again and again"
    ))
}

/// What is known of a view after a change, and the new text where it is another one.
fn changed<T>(
    view: &str,
    text: Option<&str>,
    change: impl Fn(&mut About) -> T,
) -> Result<(T, About, Option<String>), Error> {
    let before = read(view, text)?;
    let mut about = before.clone();
    let changed = change(&mut about);
    let new = (about != before || text.is_none()).then(|| serde_json::json!(about).to_string());
    Ok((changed, about, new))
}

/// What is known of a view whose rows are removed. One that cannot be read is made anew.
fn forgotten(view: &str, text: Option<&str>) -> (About, String) {
    let about = About {
        layouts: read(view, text).unwrap_or_default().layouts,
        ..About::default()
    };
    let text = serde_json::json!(about).to_string();
    (about, text)
}

/// The newest row of each key, in one order everywhere, so that two servers cannot wait for each other.
fn newest(rows: Vec<(Box<[u8]>, Row)>) -> Vec<(Box<[u8]>, Row)> {
    let mut newest: HashMap<Box<[u8]>, Row> = HashMap::with_capacity(rows.len());
    for (key, row) in rows {
        match newest.get_mut(&key) {
            Some(known) if known.stamp() > row.stamp() => {}
            Some(known) => *known = row,
            None => {
                newest.insert(key, row);
            }
        }
    }
    let mut rows: Vec<(Box<[u8]>, Row)> = newest.into_iter().collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn database_row((key, row): &(Box<[u8]>, Row)) -> OnlineRow {
    OnlineRow {
        key: key.to_vec(),
        us: row.stamp().us,
        created: row.stamp().created,
        row: row.bytes().to_vec(),
    }
}

fn read(view: &str, about: Option<&str>) -> Result<About, Error> {
    let about = about.map(|about| About::read(view, about.as_bytes()));
    Ok(about.transpose()?.unwrap_or_default())
}
